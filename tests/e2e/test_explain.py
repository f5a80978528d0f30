"""`vidtr explain`: a report that needs nothing else."""

import io
import re
from pathlib import Path

import av
import pytest

from testing.program import Program
from testing.videos import numbered, write_video
from tests.e2e.test_command_line import vidtr


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shots, in a file whose name is markup."""
    path = tmp_path_factory.mktemp("video") / "a <b> & $x^2$.mp4"
    return write_video(path, 60, size=(128, 72), draw=lambda i, w, h: numbered(i if i < 30 else 40000 + i, w, h))


def test_a_page_shows_frames_labels_and_fates_and_loads_nothing(program: Program, video: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    done = vidtr("explain", "--server", program.url, "--windows", "2", video, "-o", report)
    assert done.returncode == 0, done.stderr
    page = report.read_text(encoding="utf-8")
    # Eight frames and a map of the layers in each drawing.
    assert page.count('"data:image/png;base64,') == 2 * (8 + 1)
    assert not re.search(r"""(?:src|href)="(?!data:|#)""", page)
    assert "a &lt;b&gt; &amp; $x^2$.mp4" in page
    assert len(re.findall(r">kept<|>dropped after \d<", page)) == 2 * 8
    assert page.count("<figure role") == 2
    assert "<dd>2 windows, " in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_where_the_model_looked_is_drawn_over_the_frames_that_were_kept(
    program: Program, video: Path, tmp_path: Path
) -> None:
    pages = []
    for name, options in (("plain", ()), ("where", ("--where",))):
        report = tmp_path / f"{name}.html"
        done = vidtr("explain", "--server", program.url, "--windows", "1", *options, video, "-o", report)
        assert done.returncode == 0, done.stderr
        pages.append(report.read_text(encoding="utf-8"))
    plain, looked = (re.findall(r'"data:image/png;base64,([^"]+)"', page) for page in pages)
    # Four of eight frames reach the last layer.
    assert sum(ours != theirs for ours, theirs in zip(looked, plain, strict=True)) == 4
    assert "is no evidence of what made the label" in pages[1]


def test_without_a_server_a_picture_is_drawn_by_the_same_rooms(video: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.png"
    done = vidtr("explain", "--windows", "1", video, "-o", report)
    assert done.returncode == 0, done.stderr
    with av.open(io.BytesIO(report.read_bytes()), "r") as picture:
        [frame] = picture.decode(video=0)
    assert frame.width > 1200
    assert len(set(frame.to_ndarray(format="rgb24").reshape(-1, 3)[::50].sum(axis=1).tolist())) > 20


def test_a_video_that_is_refused_leaves_no_report(program: Program, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video")
    done = vidtr("explain", "--server", program.url, broken, "-o", tmp_path / "report.html")
    assert done.returncode == 1
    assert "container_not_allowed" in done.stderr
    assert not (tmp_path / "report.html").exists()


def test_another_kind_of_report_is_wrong_usage(video: Path) -> None:
    assert vidtr("explain", video, "-o", "report.pdf").returncode == 2
