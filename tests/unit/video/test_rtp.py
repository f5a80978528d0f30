"""What is decoded of a session of RTP equals what is decoded of the recording, and hostile packets do no harm."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np
import pytest

from service.contracts.rtp_records import DESCRIPTION, PACKET, RECORD_HEAD, RtpVideo, record
from service.errors import Undecodable, VidtrError
from service.video import rtp_payload
from service.video.live_input import LiveInput
from service.video.rtp_input import RtpInput
from service.video.rtp_payload import AccessUnit, Depacketizer, Packet, parse_packet
from service.video.ts_packets import PACKET_BYTES, TransportStream
from testing.rtp import PAYLOAD_TYPE, described, packets_of, records_of
from testing.videos import write_video
from tests.unit.video.common import decode, limits
from tests.unit.video.test_live import MODEL, asked, live, piecewise

SPS, PPS, IDR, SLICE = b"\x67sps", b"\x68pps", b"\x65key", b"\x41not"
START = b"\0\0\0\1"
VIDEO = RtpVideo(codec="h264", payload_type=PAYLOAD_TYPE)


def packet(payload: bytes, sequence: int = 1, ticks: int = 0, *, marked: bool = True, source: int = 7) -> Packet:
    return Packet(sequence % (1 << 16), ticks % (1 << 32), source, marked, payload)


def units(packets: Iterable[Packet], video: RtpVideo = VIDEO) -> list[AccessUnit]:
    depacketizer = Depacketizer(video)
    return [*(unit for one in packets for unit in depacketizer.units(one)), *depacketizer.end()]


def annex_b(*parts: bytes) -> bytes:
    return b"".join(START + part for part in parts)


@pytest.mark.parametrize(
    ("codec", "encoder", "b_frames", "packet_bytes"),
    [
        ("h264", "libx264", 0, 1472),
        ("h264", "libx264", 2, 60),
        ("hevc", "libx265", 0, 1472),
        ("hevc", "libx265", 2, 80),
    ],
)
def test_a_session_has_the_windows_of_its_recording(
    tmp_path: Path, codec: str, encoder: str, b_frames: int, packet_bytes: int
) -> None:
    video = write_video(tmp_path / "a.ts", 120, fps=25, gop=25, b_frames=b_frames, codec=encoder)
    want = asked(0.5, records=True)
    answer, recorded = decode(video, want.request, MODEL, limits(max_clips_per_job=2000))
    windows, clips, end = live(records_of(video, codec, packet_bytes), want, tmp_path)
    assert (end.frames_decoded, end.errors) == (120, 0)
    assert len(windows) >= 7
    for window, clip in zip(windows, clips, strict=True):
        of_file = answer.windows[window.number]
        assert (window.start_s, window.end_s, window.times_s) == (of_file.start_s, of_file.end_s, of_file.times_s)
        assert np.array_equal(clip, recorded[window.number])


def test_a_transport_stream_in_packets_comes_out_as_it_was(tmp_path: Path) -> None:
    data = write_video(tmp_path / "a.ts", 50).read_bytes()
    parts = [data[at : at + 7 * 188] for at in range(0, len(data), 7 * 188)]
    sent = [record(PACKET, struct.pack("!BBHII", 0x80, 33, n, 0, 7) + part) for n, part in enumerate(parts)]
    records = described("mpegts", payload_type=33) + b"".join(sent)
    stream = LiveInput(RtpInput(LiveInput(piecewise(records))).next)
    assert b"".join(iter(lambda: stream.read(1000), b"")) == data


def test_a_session_that_begins_anew_goes_on_at_its_clock(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.ts", 60, fps=25, gop=25, b_frames=0)
    # FFmpeg begins each session at a timestamp of its own.
    windows, _, end = live(records_of(video) + records_of(video), asked(0.5, records=True), tmp_path)
    assert (end.frames_decoded, end.jumps) == (120, 1)
    assert windows[-1].end_s == pytest.approx(4.8, abs=0.5)


def test_of_a_session_that_comes_late_the_late_part_is_left_out(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.ts", 300, fps=25, size=(96, 64), gop=12, b_frames=0)
    data, want = records_of(video), asked(0.25, records=True)
    answer, recorded = decode(video, want.request, MODEL, limits(max_clips_per_job=2000))
    windows, clips, end = live(data, want, tmp_path, range(int(0.4 * len(data)), int(0.7 * len(data))))
    assert end.frames_decoded < 300
    assert len(windows) < len(answer.windows) - 2
    for window, clip in zip(windows, clips, strict=True):
        assert window.times_s == answer.windows[window.number].times_s
        assert np.array_equal(clip, recorded[window.number])


def test_a_stream_of_packets_may_lose_some(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.ts", 120, fps=25, gop=12, b_frames=0)
    left = [one for n, one in enumerate(packets_of(video, 60)) if n % 50 != 49]
    records = described() + b"".join(record(PACKET, one) for one in left)
    windows, _, end = live(records, asked(0.5, records=True), tmp_path)
    assert 60 < end.frames_decoded < 120
    assert len(windows) >= 6


def test_what_was_written_is_a_stream_that_others_read(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.ts", 30, fps=25, b_frames=0)
    stream, depacketizer, at = TransportStream("h264"), Depacketizer(VIDEO), tmp_path / "b.ts"
    parsed = [parse_packet(one, PAYLOAD_TYPE) for one in packets_of(video)]
    data = b"".join(stream.write(unit) for one in parsed if one for unit in depacketizer.units(one))
    at.write_bytes(data)
    assert len(data) % PACKET_BYTES == 0
    assert set(data[::PACKET_BYTES]) == {0x47}
    with av.open(str(at)) as container:
        stamps = [one.pts for one in container.demux(video=0) if one.pts is not None]
    assert np.diff(stamps).tolist() == [3600] * 29


def payload(packet: bytes) -> bytes:
    """What one packet of a transport stream carries beside its header and adaptation field."""
    return packet[5 + packet[4] :] if packet[3] & 0x20 else packet[4:]


def test_a_picture_of_any_size_fills_whole_packets() -> None:
    stream = TransportStream("h264")
    for size in range(400):
        data = stream.write(AccessUnit(bytes([size % 251]) * size, 5, keyframe=False))
        packets = [data[at : at + PACKET_BYTES] for at in range(0, len(data), PACKET_BYTES)]
        assert {len(one) for one in packets} == {PACKET_BYTES}
        pes = b"".join(payload(one) for one in packets if one[1] & 0x1F == 1)
        assert pes[14:] == bytes([size % 251]) * size


def test_parameter_sets_of_the_description_come_before_a_keyframe_that_lacks_them() -> None:
    video = RtpVideo.model_validate({"codec": "h264", "payload_type": 96, "parameter_sets": [b"Z3Nwcw==", b"aHBwcw=="]})
    found = units([packet(SLICE, 1, 0), packet(IDR, 2, 10)], video)
    assert [unit.data for unit in found] == [annex_b(SLICE), annex_b(SPS, PPS, IDR)]
    assert [unit.keyframe for unit in found] == [False, True]


def test_newer_parameter_sets_replace_those_of_the_description() -> None:
    newer = b"\x67new"
    sent = [packet(one, n, n // 4, marked=False) for n, one in enumerate((newer, PPS, IDR, SLICE, IDR))]
    assert units(sent)[-1].data == annex_b(newer, PPS, IDR)


def test_units_in_one_packet_are_told_apart() -> None:
    aggregate = b"\x18" + b"".join(struct.pack("!H", len(one)) + one for one in (SPS, PPS, IDR))
    assert [unit.data for unit in units([packet(aggregate)])] == [annex_b(SPS, PPS, IDR)]


@pytest.mark.parametrize("rest", [b"\0", b"\0\0", b"\0\1x", b"\xff\xffx", b"\0\5abc"])
def test_what_does_not_fit_into_an_aggregate_is_left_out(rest: bytes) -> None:
    aggregate = b"\x18" + struct.pack("!H", len(IDR)) + IDR + rest
    assert [unit.data for unit in units([packet(aggregate)])] == [annex_b(IDR)]


def fragments(size: int = 3) -> list[bytes]:
    marks = [0x80, *[0] * (size - 2), 0x40]
    return [bytes([0x7C, mark | 5, n]) for n, mark in enumerate(marks)]


def test_fragments_become_the_unit_that_they_are_of() -> None:
    sent = [packet(one, n, 9, marked=n == 2) for n, one in enumerate(fragments())]
    assert units(sent) == [AccessUnit(annex_b(b"\x65\0\1\2"), 9, keyframe=True)]


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_unit_of_which_a_fragment_is_missing_is_left_out(lost: int) -> None:
    sent = [packet(one, n, 9, marked=False) for n, one in enumerate(fragments()) if n != lost]
    assert [unit.data for unit in units([*sent, packet(SLICE, 3, 10)])] == [annex_b(SLICE)]


def test_a_picture_ends_where_the_timestamp_changes_or_the_mark_says_so() -> None:
    sent = [packet(SLICE, 1, 1, marked=False), packet(SLICE, 2, 1, marked=False), packet(SLICE, 3, 2)]
    assert [unit.data for unit in units(sent)] == [annex_b(SLICE, SLICE), annex_b(SLICE)]


def test_a_clock_that_wraps_goes_on() -> None:
    ticks = [(1 << 32) - 10, 20, 5, 40]
    found = units([packet(SLICE, n, at) for n, at in enumerate(ticks)])
    first = found[0].ticks
    assert [unit.ticks - first for unit in found] == [0, 30, 15, 50]


def test_sequence_numbers_that_wrap_lose_nothing() -> None:
    sent = [packet(one, 65535 + n, 9, marked=n == 2) for n, one in enumerate(fragments())]
    assert len(units(sent)) == 1


def test_the_header_of_a_packet_is_passed_over() -> None:
    plain = struct.pack("!BBHII", 0x80, 0x80 | 96, 3, 4, 5) + b"data"
    assert parse_packet(plain, 96) == Packet(3, 4, 5, True, b"data")
    full = struct.pack("!BBHII", 0xB2, 96, 3, 4, 5) + bytes(8) + b"\xbe\xde\0\1" + bytes(4) + b"data\0\0\3"
    assert parse_packet(full, 96) == Packet(3, 4, 5, False, b"data")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x60" + bytes(9),
        b"\x40\x60" + bytes(20),
        b"\x80\x61" + bytes(20),
        b"\x80\x60" + bytes(10),
        b"\x8f\x60" + bytes(20),
        b"\x90\x60" + bytes(12),
        b"\x90\x60" + bytes(12) + b"\xff\xff",
        b"\xa0\x60" + bytes(20),
        b"\xa0\x60" + bytes(20) + b"\xff",
    ],
)
def test_what_is_no_packet_is_left_out(data: bytes) -> None:
    assert parse_packet(data, 96) is None


def test_a_picture_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtp_payload, "LARGEST_UNIT_BYTES", 5000)
    whole, begun = bytes([0x41]) + bytes(1000), bytes([0x7C, 0x85]) + bytes(1000)
    for first, rest in ((whole, whole), (begun, bytes([0x7C, 0x05]) + bytes(1000))):
        with pytest.raises(Undecodable) as raised:
            units(packet(rest if n else first, n, marked=False) for n in range(10))
        assert (raised.value.limit, raised.value.code) == (5000, "undecodable")


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        record(PACKET, bytes(20)),
        record(DESCRIPTION, b"{}"),
        record(DESCRIPTION, b'{"codec": "rawvideo", "payload_type": 96}'),
        record(DESCRIPTION, b"\xff"),
        record(2, b""),
        described() + described("hevc"),
    ],
)
def test_records_that_cannot_be_are_refused(data: bytes) -> None:
    stream = LiveInput(RtpInput(LiveInput(piecewise(data))).next)
    with pytest.raises(Undecodable):
        stream.read(1)


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The packets of a small video."""
    folder = tmp_path_factory.mktemp("rtp")
    return packets_of(write_video(folder / "a.ts", 40, fps=25, gop=10, b_frames=0), 100)


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("seed", range(8))
def test_noise_in_packets_is_no_more_than_an_error(tmp_path: Path, sent: list[bytes], codec: str, seed: int) -> None:
    noise = random.Random(seed)
    records = [described(codec)]
    for one in sent:
        damaged = bytearray(one)
        for _ in range(noise.choice((0, 0, 1, 4))):
            damaged[noise.randrange(len(damaged))] = noise.randrange(256)
        records.append(record(PACKET, bytes(damaged[: noise.choice((len(one), noise.randrange(1, len(one))))])))
    try:
        _, _, ended = live(b"".join(records), asked(0.5, records=True, most_s=60.0), tmp_path)
        assert ended.frames_decoded <= 40
    except VidtrError as error:
        # A timestamp that is damaged may be one of long after the session.
        assert error.code in ("undecodable", "container_not_allowed", "no_video_stream", "duration_limit")  # noqa: PT017


def test_a_record_that_is_cut_off_ends_the_stream_before_it(tmp_path: Path) -> None:
    data = records_of(write_video(tmp_path / "a.ts", 60, fps=25, b_frames=0))
    cut = data[: -RECORD_HEAD.size - 1]
    assert live(cut, asked(None, records=True), tmp_path)[2].frames_decoded >= 59
