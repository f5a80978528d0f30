"""`vidtr classify` over folders: interrupted, killed and gone on with, every file is answered exactly once."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from testing.program import Program
from testing.videos import write_video

REAL_CLIPS = Path(__file__).parents[3] / "shared" / "clips"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some videos, one of them in a folder of its own, and a last one that is none."""
    folder = tmp_path_factory.mktemp("folder")
    (folder / "deep").mkdir()
    first = write_video(folder / "clip0.mp4", 40)
    for name in ("clip1.mp4", "clip2.mp4", "clip3.mp4", "deep/clip4.mp4"):
        shutil.copy(first, folder / name)
    (folder / "last.mp4").write_bytes(b"not a video")
    return folder


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "service.cli.main", "classify", *map(str, arguments)]


def run(*arguments: object, stdin: Path | None = None) -> subprocess.CompletedProcess[str]:
    with (stdin or Path("/dev/null")).open("rb") as given:
        return subprocess.run(
            command(*arguments), stdin=given, capture_output=True, text=True, timeout=250, check=False
        )


def files_in(output: Path) -> Counter[str]:
    text = output.read_text(encoding="utf-8")
    if output.suffix == ".csv":
        return Counter(row["file"] for row in csv.DictReader(text.splitlines()))
    return Counter(json.loads(line)["file"] for line in text.splitlines())


def videos_in(folder: Path) -> Counter[str]:
    return Counter(str(path) for path in folder.rglob("*.*") if path.is_file())


def start_and_wait_for_a_record(output: Path, *arguments: object) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(command(*arguments, "-o", output), stderr=subprocess.DEVNULL)
    while not output.exists() or output.read_bytes().count(b"\n") < 2:
        assert process.poll() is None
        time.sleep(0.005)
    return process


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_run_that_is_killed_in_the_middle_of_a_record_is_gone_on_with(
    program: Program, folder: Path, tmp_path: Path, form: str
) -> None:
    output = tmp_path / f"answers.{form}"
    arguments = (folder, f"--{form}", "--server", program.url, "--jobs", "1")
    process = start_and_wait_for_a_record(output, *arguments)
    process.kill()
    process.wait()
    # What a kill inside of a write leaves.
    whole = output.read_bytes()
    output.write_bytes(whole[:-9])
    done = run(*arguments, "-o", output, "--resume")
    assert done.returncode == 1, done.stderr
    assert files_in(output) == videos_in(folder)


def test_an_interrupted_run_ends_what_it_began_and_says_so(program: Program, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "answers.jsonl"
    many = tmp_path / "many"
    for copy in range(20):
        shutil.copytree(folder / "deep", many / str(copy))
    arguments = (many, "--jsonl", "--server", program.url)
    process = start_and_wait_for_a_record(output, *arguments)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    begun = files_in(output)
    assert set(begun.values()) == {1}
    assert len(begun) < 20
    assert run(*arguments, "-o", output, "--resume").returncode == 0
    assert files_in(output) == videos_in(many)
    assert begun <= files_in(output)


def test_a_failure_that_may_pass_is_tried_again_and_a_refusal_is_not(
    program: Program, folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "answers.jsonl"
    arguments = (folder / "clip0.mp4", folder / "last.mp4", "--jsonl", "-o", output, "--retry-for-s", "0")
    assert run(*arguments, "--server", "http://127.0.0.1:9").returncode == 3
    assert run(*arguments, "--server", program.url, "--resume").returncode == 1
    last = output.read_text()
    assert files_in(output) == Counter(map(str, arguments[:2]))
    done = run(*arguments, "--server", program.url, "--resume")
    assert (done.returncode, output.read_text()) == (0, last)
    assert "2 of 2 files are in" in done.stderr


def test_an_output_that_exists_is_not_overwritten(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "answers.jsonl"
    output.write_text("mine\n")
    done = run(folder, "--jsonl", "-o", output)
    assert (done.returncode, output.read_text()) == (2, "mine\n")
    assert "--resume" in done.stderr


@pytest.mark.parametrize(
    "arguments", [("--json", "--csv"), ("--resume",), ("--json", "-o", "out"), ("--jobs", "0"), ("--windows", "some")]
)
def test_flags_that_do_not_fit_are_wrong_usage(folder: Path, arguments: tuple[str, ...]) -> None:
    assert run(folder, *arguments).returncode == 2


@pytest.mark.parametrize("where", ["here", "server"])
def test_standard_input_is_classified(program: Program, folder: Path, where: str) -> None:
    server = ("--server", program.url) if where == "server" else ()
    done = run("-", "--jsonl", *server, stdin=folder / "clip0.mp4")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["file"] == "-"


def test_files_are_classified_side_by_side_in_one_process(folder: Path) -> None:
    done = run(folder, "--csv", "--jobs", "3", "--top-k", "1")
    assert done.returncode == 1, done.stderr
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert Counter(row["file"] for row in rows) == videos_in(folder)
    # The clips are the same file.
    assert len({row["label_1"] for row in rows if not row["error"]}) == 1


@pytest.mark.slow
@pytest.mark.skipif(not REAL_CLIPS.is_dir(), reason="the folder of real clips is not there")
def test_all_real_clips_are_answered_once_although_the_run_is_broken_off_again_and_again(
    program: Program, tmp_path: Path
) -> None:
    output = tmp_path / "answers.jsonl"
    arguments = (REAL_CLIPS, REAL_CLIPS / "*.mp3", "--jsonl", "--server", program.url)
    for number in (signal.SIGINT, signal.SIGKILL):
        output.unlink(missing_ok=True) if number is signal.SIGINT else None
        resume = ("--resume",) if output.exists() else ()
        process = subprocess.Popen(command(*arguments, "-o", output, *resume), stderr=subprocess.DEVNULL)
        size = output.stat().st_size if output.exists() else 0
        while not output.exists() or output.stat().st_size <= size:
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(number)
        process.wait(120)
    done = run(*arguments, "-o", output, "--resume")
    assert done.returncode == 1, done.stderr
    wanted = [path for path in REAL_CLIPS.iterdir() if path.suffix not in (".csv", ".md")]
    assert files_in(output) == Counter(map(str, wanted))
