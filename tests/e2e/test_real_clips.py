"""Real videos of every kind, kept outside the repository: each gets an answer, or the documented refusal."""

import csv
from pathlib import Path

import httpx
import pytest

from service.api.problems import STATUS
from service.contracts import JobResult
from testing.program import upload

CLIPS = Path(__file__).parents[3] / "shared" / "clips"

# What cannot be classified, and why; everything else must be answered.
REFUSED = {
    "androidx__mp4__sample_malformed_free_box.mp4": "undecodable",
    "decord__unordered.mov": "video_too_short",
    "decord__video_0.mov": "video_too_short",
    "decord__video_90.mov": "video_too_short",
    "decord__video_180.mov": "video_too_short",
    "derived__arm_wrestling_animated.webp": "container_not_allowed",
    "derived__demo_truncated_60pct.mp4": "undecodable",
    "torchcodec__nasa_13013.mp4.audio.mp3": "container_not_allowed",
}


def expectations() -> list[tuple[str, str | None]]:
    if not (CLIPS / "CLIPS.csv").is_file():
        return []
    with (CLIPS / "CLIPS.csv").open(newline="") as file:
        return [(row["file"], REFUSED.get(row["file"])) for row in csv.DictReader(file)]


@pytest.mark.skipif(not CLIPS.is_dir(), reason="no collection of real clips beside the repository")
def test_every_clip_gets_an_answer_or_its_documented_refusal(client: httpx.Client) -> None:
    wrong = []
    print()
    for name, refusal in expectations():
        response = upload(client, CLIPS / name)
        body = response.json()
        if response.status_code == 200:
            result = JobResult.model_validate(body)
            best = result.predictions[0]
            line = (
                f"200 {best.label} {best.score:.3f}, {len(result.windows)} windows of {result.video.duration_s:.2f} s, "
                f"{result.video.codec} in {result.video.container}, rotation {result.video.rotation}, "
                f"{result.timings_ms.total:.0f} ms; {', '.join(w.code for w in result.warnings)}"
            )
            good = refusal is None
        else:
            line = f"{response.status_code} {body['code']}: {body['detail']}"
            good = body["code"] == refusal and response.status_code == STATUS.get(body["code"])
        print(f"{name:52s} {line}")
        if not good:
            wrong.append(f"{name}: {line}")
    assert not wrong
