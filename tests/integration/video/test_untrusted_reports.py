"""A sandbox worker that has been taken over says what it likes: whatever it is, only its own upload suffers."""

from __future__ import annotations

import copy
import json
import os
import random
import resource
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.contracts import DecodedVideo, JobClass
from service.errors import DecoderCrash, VidtrError
from service.video.decode_report import report_of
from service.video.held_clips import HeldClips
from service.video.pool import DecodePool
from testing.videos import write_video
from tests.fixtures.bare_machine import prepare_evil_on_a_bare_machine
from tests.fixtures.evil_worker import program, take_over
from tests.integration.video.test_pool import running
from tests.unit.video.common import SPEC
from tests.unit.video.test_decode_report import INFINITY, NAN, REQUEST, changed, honest, said

__all__ = ["honest"]

# A full run (`make test-full`) sets how many; CI does with fewer.
REPORTS = int(os.environ.get("VIDTR_FUZZ_REPORTS", "400"))
RACES = int(os.environ.get("VIDTR_TRUNCATIONS", "20"))


@pytest.fixture
async def evil(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[DecodePool]:
    take_over(monkeypatch)
    async with running() as pool:
        yield pool


# A program that says these bytes instead of a report, by itself.
SAY = """
frame = sys._getframe()
while "control" not in frame.f_locals:
    frame = frame.f_back
said = {said!r}
while said:
    said = said[os.write(frame.f_locals["control"], said):]
time.sleep(60)
"""
# Goes on cutting its clips off and filling them up again until its upload becomes longer.
FLICKER = """
import threading

report = json.loads({report!r})
file = clips.open("r+b")
file.write(bytes({size}))
file.flush()
descriptor = os.dup(file.fileno())


with upload.open("rb") as held:
    source = os.dup(held.fileno())
length = os.fstat(source).st_size


def flicker():
    while os.fstat(source).st_size == length:
        os.ftruncate(descriptor, 0)
        os.ftruncate(descriptor, {size})
    os.close(descriptor)
    os.close(source)


threading.Thread(target=flicker).start()
"""
NASTY: list[Any] = [
    None,
    True,
    -1,
    0,
    2,
    10**6,
    10**30,
    NAN,
    INFINITY,
    -0.5,
    "",
    "x" * 3000,
    "\x1b[2J\n",
    [],
    {},
    [[]] * 50,
]


def mutated(report: Any, dice: random.Random) -> Any:
    """The report with one to three of its values, anywhere, replaced, removed or repeated."""
    report = json.loads(json.dumps(report))
    for _ in range(dice.randint(1, 3)):
        inner: Any = report
        while True:
            places = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
            if not places:
                break
            place = dice.choice(places)
            if isinstance(inner[place], dict | list) and dice.random() < 0.8:
                inner = inner[place]
                continue
            if isinstance(inner, list) and dice.random() < 0.3:
                inner.extend([inner[place]] * dice.choice((1, 5, 500)))
            elif dice.random() < 0.2:
                del inner[place]
            else:
                # A copy: one list in two places would soon be within itself.
                inner[place] = copy.deepcopy(dice.choice(NASTY))
            break
    return report


def framed(report: bytes) -> bytes:
    return len(report).to_bytes(8, "big") + report


def evil_report(honest: DecodedVideo, dice: random.Random) -> bytes:
    """A report with its length: mostly near an honest one, sometimes no JSON, or of another length."""
    errors = said()
    report = json.dumps(mutated(dice.choice((report_of(honest), report_of(honest), errors)), dice)).encode()
    kind = dice.random()
    if kind < 0.1:
        report = dice.randbytes(dice.randint(0, 2000))
    elif kind < 0.2:
        place = dice.randrange(len(report))
        report = report[:place] + dice.randbytes(3) + report[place + 1 :]
    if kind > 0.95:
        return dice.choice((2**63, 2**40, 10**6)).to_bytes(8, "big") + report
    return framed(report)


async def outcome(pool: DecodePool, path: Path, out: Path, caller: str = "") -> str:
    try:
        await pool.decode(path, out, SPEC, REQUEST, caller)
    except VidtrError as error:
        return error.code
    return "answered"


@pytest.mark.slow
async def test_no_report_harms_anything_but_its_own_upload(
    evil: DecodePool, honest: DecodedVideo, tmp_path: Path
) -> None:
    dice = random.Random(7)
    video, out = write_video(tmp_path / "good.mp4"), tmp_path / "out"
    me = psutil.Process()
    seen: dict[str, int] = {}
    rest = 0
    for number in range(REPORTS):
        upload = program(tmp_path / "evil", SAY.format(said=evil_report(honest, dice)))
        code = await outcome(evil, upload, tmp_path / "clips", "mallory")
        seen[code] = seen.get(code, 0) + 1
        if number % 100 == 99:
            assert await outcome(evil, video, out, "ann") == "answered"
            assert out.stat().st_size == 2 * SPEC.clip_bytes
        if number == REPORTS // 10:
            rest = me.memory_info().rss
    # Clips were never written, so no report of clips is believed, however well it is made.
    assert "answered" not in seen
    assert seen[DecoderCrash.code] > REPORTS // 2
    assert me.memory_info().rss - rest < 50 * 1024**2


async def test_clips_that_are_cut_off_while_they_are_read_end_their_own_upload_alone(
    monkeypatch: pytest.MonkeyPatch, honest: DecodedVideo, tmp_path: Path
) -> None:
    monkeypatch.setattr("service.video.pool.prepare_decoder", prepare_evil_on_a_bare_machine)
    size = len(honest.clips) * SPEC.clip_bytes
    source = FLICKER.format(report=json.dumps(report_of(honest)), size=size)
    video, out, cut_off = write_video(tmp_path / "good.mp4"), tmp_path / "clips", 0
    async with running(decode_sandbox="best_effort") as pool:
        for number in range(RACES):
            upload = program(tmp_path / "evil", source)
            # Its own crashes would keep a caller out after a few of them.
            code = await outcome(pool, upload, out, f"mallory {number}")
            assert code in ("answered", DecoderCrash.code)
            with HeldClips(out, size) as clips:
                for _ in range(100):
                    try:
                        assert len(clips[:]) == size
                    except DecoderCrash:
                        cut_off += 1
            with upload.open("a") as file:
                file.write("#")
        assert await outcome(pool, video, out, "ann") == "answered"
    assert cut_off


async def test_a_cell_that_claims_millions_of_crops_costs_its_upload_only(
    evil: DecodePool, honest: DecodedVideo, tmp_path: Path
) -> None:
    report = json.dumps(changed(honest, "crops", 30_000_000)).encode()
    upload = program(tmp_path / "evil", SAY.format(said=framed(report)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert await outcome(evil, upload, tmp_path / "clips") == DecoderCrash.code
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024


async def test_a_cell_that_was_not_believed_is_not_used_again(
    evil: DecodePool, honest: DecodedVideo, tmp_path: Path
) -> None:
    who = program(tmp_path / "who", 'report = {"error": {"code": "undecodable", "detail": str(os.getpid())}}')
    liar = program(tmp_path / "liar", 'report = {"error": {"code": "internal", "detail": ""}}')
    pids = []
    for upload in (who, liar, who):
        with pytest.raises(VidtrError) as caught:
            await evil.decode(upload, tmp_path / "clips", SPEC, REQUEST, "mallory")
        pids.append(caught.value.detail)
    assert len(set(pids)) == 3


class _AllThere:
    """A supply of a file that is all there."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.asked: list[tuple[int, int]] = []

    async def fetch(self, offset: int, length: int) -> None:
        self.asked.append((offset, length))


@pytest.mark.parametrize("want", [[0, 10**6], [-1, 5], [0, 0], [0], "all", [0, 10**30], {}])
async def test_a_worker_that_was_taken_over_gets_no_bytes_beyond_the_source(
    evil: DecodePool, tmp_path: Path, want: object
) -> None:
    message = json.dumps({"want": want}).encode()
    upload = program(tmp_path / "upload", SAY.format(said=len(message).to_bytes(8, "big") + message))
    supply = _AllThere(upload.stat().st_size)
    async with evil.slot(JobClass.INTERACTIVE) as slot:
        with pytest.raises(DecoderCrash):
            await slot.decode(upload, tmp_path / "clips", SPEC, REQUEST, supply=supply)
    assert all(0 <= offset < supply.size and length <= supply.size - offset for offset, length in supply.asked)
