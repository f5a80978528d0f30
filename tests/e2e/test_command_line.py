import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from testing.program import Program, upload
from testing.videos import write_video
from tests.fixtures.servers import MODEL_REPOSITORY


def vidtr(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service.cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    directory = tmp_path_factory.mktemp("clips")
    return [write_video(directory / f"clip{i}.mp4", 40 + i) for i in range(3)]


def test_classify_prints_a_table_of_its_files(clips: list[Path]) -> None:
    done = vidtr("classify", *clips)
    assert done.returncode == 0, done.stderr
    assert all(clip.name in done.stdout for clip in clips)
    assert "random weights" not in done.stderr


@pytest.mark.parametrize("where", ["in this process", "by a service"])
def test_classify_shows_windows_as_they_are_scored(program: Program, clips: list[Path], where: str) -> None:
    asked = ("--server", program.url) if where == "by a service" else ()
    done = vidtr("classify", "--jsonl", "--live", "--windows", "all", *asked, clips[0])
    answer = json.loads(done.stdout)
    assert len(answer["windows"]) > 0
    for window in answer["windows"]:
        assert f"{clips[0]}: {window['start_s']:.2f} to {window['end_s']:.2f} s: " in done.stderr


def test_classify_says_that_a_model_is_not_trained(clips: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDTR_MODEL_REPOSITORY", str(MODEL_REPOSITORY))
    monkeypatch.setenv("VIDTR_DEFAULT_MODEL", "untrained_tiny")
    assert "random weights" in vidtr("classify", clips[0]).stderr


def test_json_is_one_array_in_the_order_of_the_files(clips: list[Path]) -> None:
    done = vidtr("classify", "--json", "--top-k", "3", *clips)
    documents = json.loads(done.stdout)
    assert [document["file"] for document in documents] == [str(clip) for clip in clips]
    assert all(len(document["predictions"]) == 3 for document in documents)


def test_without_a_server_the_answer_is_the_servers(program: Program, client: httpx.Client, clips: list[Path]) -> None:
    local = json.loads(vidtr("classify", "--jsonl", clips[0]).stdout)
    remote = json.loads(vidtr("classify", "--jsonl", "--server", program.url, clips[0]).stdout)
    for key in ("model", "video", "coverage", "warnings"):
        assert local[key] == remote[key] == upload(client, clips[0]).json()[key]
    for ours, theirs in zip(local["windows"], remote["windows"], strict=True):
        assert [p["label"] for p in ours["predictions"]] == [p["label"] for p in theirs["predictions"]]
        assert [f["score"] for f in ours["attention"]] == pytest.approx(
            [f["score"] for f in theirs["attention"]], abs=1e-5
        )


@pytest.mark.parametrize("where", ["here", "server"])
def test_a_file_that_cannot_be_classified_is_reported_and_the_others_are_done(
    program: Program, clips: list[Path], tmp_path: Path, where: str
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video")
    server = ["--server", program.url] if where == "server" else []
    done = vidtr("classify", *server, clips[0], broken, tmp_path / "missing.mp4", clips[1])
    assert done.returncode == 3
    assert "broken.mp4: container_not_allowed" in done.stderr
    assert "missing.mp4: unreadable_file" in done.stderr
    assert clips[0].name in done.stdout
    assert clips[1].name in done.stdout


def test_files_that_are_refused_for_good_are_exit_status_1(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video")
    done = vidtr("classify", "--csv", broken)
    assert done.returncode == 1
    assert ",container_not_allowed," in done.stdout


def test_a_server_that_is_not_there_is_reported_as_worth_another_try(clips: list[Path]) -> None:
    done = vidtr("classify", "--retry-for-s", "0", "--server", "http://127.0.0.1:9", clips[0])
    assert done.returncode == 3
    assert "server_unreachable" in done.stderr


def test_wrong_usage_is_exit_status_2(clips: list[Path]) -> None:
    done = vidtr("classify", "--crops", "2", clips[0])
    assert done.returncode == 2
    assert "crops" in done.stderr


def test_the_exported_fixture_is_the_committed_one(tmp_path: Path) -> None:
    done = vidtr("export", "untrained_tiny", "--repository", tmp_path)
    assert done.returncode == 0, done.stderr
    committed = MODEL_REPOSITORY / "untrained_tiny" / "1" / "model.pt"
    [fresh] = tmp_path.rglob("model.pt")
    assert fresh.stat().st_size == pytest.approx(committed.stat().st_size, rel=0.05)
    assert fresh.stat().st_size < 5_000_000
