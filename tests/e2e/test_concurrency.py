from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from testing.program import Program, upload
from testing.videos import Image, write_video

UPLOADS = 32


def batches(client: httpx.Client) -> tuple[float, float]:
    """(inference calls, clips in them) so far."""
    [family] = [f for f in text_string_to_metric_families(client.get("/metrics").text) if f.name == "vidtr_batch_clips"]
    value = {s.name: s.value for s in family.samples}
    return value["vidtr_batch_clips_count"], value["vidtr_batch_clips_sum"]


@pytest.fixture(scope="module")
def different_clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    directory = tmp_path_factory.mktemp("different")

    def drawing(seed: int) -> Callable[[int, int, int], Image]:
        rng = np.random.default_rng(seed)
        base = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        speed = int(rng.integers(0, 5))

        def draw(number: int, width: int, height: int) -> Image:
            return np.roll(base, speed * number, axis=1)

        return draw

    return [write_video(directory / f"{seed}.mp4", 40, draw=drawing(seed)) for seed in range(UPLOADS)]


def scores(response: httpx.Response) -> np.ndarray:
    """Scores of all labels and of all frames, in a fixed order."""
    assert response.status_code == 200, response.text
    body = response.json()
    labels = [p["score"] for p in sorted(body["predictions"], key=lambda p: p["index"])]
    return np.array(labels + [f["score"] for window in body["windows"] for f in window["attention"]])


def test_concurrent_uploads_each_get_their_own_answer_from_shared_batches(
    program: Program, client: httpx.Client, different_clips: list[Path]
) -> None:
    alone = [scores(upload(client, path, top_k=12)) for path in different_clips]
    calls_before, clips_before = batches(client)
    with ThreadPoolExecutor(UPLOADS) as pool, program.client() as shared:
        together = list(pool.map(lambda path: scores(upload(shared, path, top_k=12)), different_clips))
    calls, clips = batches(client)
    np.testing.assert_allclose(together, alone, atol=1e-4)
    distances = [np.abs(a - b).max() for i, a in enumerate(alone) for b in alone[:i]]
    assert min(distances) > 1e-4, "the clips are too alike to tell whether answers were mixed up"
    mean = (clips - clips_before) / (calls - calls_before)
    print(f"\n{UPLOADS} concurrent uploads: mean batch size {mean:.2f}")
    assert mean > 1
