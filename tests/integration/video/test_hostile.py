"""Files made to hurt: each is refused with its code or answered, within its limits, by a pool that goes on working."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.contracts import JobRequest
from service.errors import VidtrError
from service.video.pool import DecodePool
from testing.vc1_videos import Profile, write_vc1
from testing.videos import quadrants, remux, write_audio, write_video
from tests.integration.video.test_pool import fork_servers, running, sandbox_workers, until_decoding
from tests.unit.video.common import SPEC

# A full run (`make test-full`) sets the number of files; CI fuzzes with fewer.
FUZZ_FILES = int(os.environ.get("VIDTR_FUZZ_FILES", "1000"))
# The number of the first of them, which seeds its changes: many files can be tried in several runs.
FUZZ_FIRST = int(os.environ.get("VIDTR_FUZZ_FIRST", "0"))


async def outcome(pool: DecodePool, path: Path, out: Path, request: JobRequest | None = None) -> str:
    """The error's code, or "answered"."""
    try:
        await pool.decode(path, out, SPEC, request or JobRequest())
    except VidtrError as error:
        return "unforeseen" if "unforeseen" in error.detail else error.code
    return "answered"


def box(kind: bytes, *content: bytes) -> bytes:
    data = b"".join(content)
    return struct.pack(">I", 8 + len(data)) + kind + data


@pytest.fixture
def listener() -> Iterator[tuple[int, list[object]]]:
    """A port, and the connections that it got."""
    connections: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        done = threading.Event()

        def accept() -> None:
            while not done.is_set():
                try:
                    connections.append(server.accept())
                except TimeoutError:
                    continue

        thread = threading.Thread(target=accept)
        thread.start()
        yield server.getsockname()[1], connections
        done.set()
        thread.join()


LISTINGS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{target}\n#EXT-X-ENDLIST\n",
    "hls with a key": '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{target}"\n#EXTINF:2,\n{target}\n#EXT-X-ENDLIST\n',
    "ffconcat": "ffconcat version 1.0\nfile '{target}'\n",
    "dash": '<?xml version="1.0"?><MPD><Period><BaseURL>{target}</BaseURL></Period></MPD>',
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\na=x:{target}\n",
    "svg": '<svg xmlns="http://www.w3.org/2000/svg"><image href="{target}"/></svg>',
}


@pytest.mark.parametrize("kind", LISTINGS)
async def test_a_listing_of_other_places_reaches_none(
    tmp_path: Path, listener: tuple[int, list[object]], kind: str
) -> None:
    port, connections = listener
    other = write_video(tmp_path / "other.ts")
    read_at = other.stat().st_atime_ns
    upload = tmp_path / "upload"
    async with running() as pool:
        for target in (f"http://127.0.0.1:{port}/a.ts", f"file://{other}", str(other)):
            upload.write_text(LISTINGS[kind].format(target=target))
            assert await outcome(pool, upload, tmp_path / "out") == "container_not_allowed"
    assert not connections
    assert other.stat().st_atime_ns == read_at


async def test_a_reference_to_another_file_inside_an_mp4_is_not_followed(tmp_path: Path) -> None:
    other = write_video(tmp_path / "other.mp4")
    data = other.read_bytes()
    reference = box(b"alis", bytes(4), bytes(150)) + box(b"url ", bytes(4), f"file://{other}\0".encode())
    entry = data.index(b"dref")
    size = int.from_bytes(data[entry - 4 : entry], "big")
    inner = b"dref" + bytes(4) + struct.pack(">I", 2) + reference
    hostile = data[: entry - 4] + struct.pack(">I", 4 + len(inner)) + inner + data[entry - 4 + size :]
    (tmp_path / "upload").write_bytes(hostile)
    async with running() as pool:
        read_at = other.stat().st_atime_ns
        code = await outcome(pool, tmp_path / "upload", tmp_path / "out")
    assert code in ("undecodable", "no_video_stream", "codec_not_allowed")
    assert other.stat().st_atime_ns == read_at


def with_script(wmv: bytes, url: str) -> bytes:
    """A WMV file with an object in its header that tells players to open a URL."""
    kind, name = "URL".encode("utf-16-le"), url.encode("utf-16-le")
    content = bytes(16) + struct.pack("<HHH", 1, 1, 3) + kind + struct.pack("<IHH", 0, 0, len(url)) + name
    script = bytes.fromhex("301afb1e620bd011a39b00a0c90348f6") + struct.pack("<Q", 24 + len(content)) + content
    size, count = struct.unpack_from("<QI", wmv, 16)
    return wmv[:16] + struct.pack("<QI", size + len(script), count + 1) + wmv[28:30] + script + wmv[30:]


def with_locator(mxf: bytes, url: str) -> bytes:
    """An MXF file with a set in its header that says where else the pictures are."""
    text = url.encode("utf-16-be")
    content = struct.pack(">HH", 0x4001, len(text)) + text
    key = bytes.fromhex("060e2b34025301010d01010101013200")
    locator = key + b"\x83" + len(content).to_bytes(3, "big") + content
    # In front of the first set of the header, which is the preface.
    place = mxf.index(bytes.fromhex("060e2b34025301010d01010101012f00"))
    return mxf[:place] + locator + mxf[place:]


@pytest.mark.parametrize("kind", ["wmv", "mxf"])
async def test_a_reference_inside_a_broadcast_or_windows_file_is_not_followed(
    tmp_path: Path, listener: tuple[int, list[object]], kind: str
) -> None:
    port, connections = listener
    plain = write_video(tmp_path / f"a.{kind}", 30, codec="wmv2" if kind == "wmv" else "mpeg2video", fps=25)
    other = write_video(tmp_path / f"other.{kind}", codec="wmv2" if kind == "wmv" else "mpeg2video", fps=25)
    read_at = other.stat().st_atime_ns
    upload = tmp_path / "upload"
    async with running() as pool:
        for target in (f"http://127.0.0.1:{port}/a.{kind}", f"file://{other}", str(other)):
            upload.write_bytes((with_script if kind == "wmv" else with_locator)(plain.read_bytes(), target))
            assert await outcome(pool, upload, tmp_path / "out") in ("answered", "undecodable", "no_video_stream")
    assert not connections
    assert other.stat().st_atime_ns == read_at


def pixel_bomb(folder: Path) -> Path:
    return write_video(folder / "bomb.mp4", 4, size=(8192, 4320), draw=quadrants)


def pixel_bomb_of_jpegs(folder: Path) -> Path:
    return write_video(folder / "bomb.mp4", 4, size=(8192, 4320), draw=quadrants, codec="mjpeg")


def lying_about_its_size(folder: Path) -> Path:
    path = write_video(folder / "lie.mp4", 30)
    data = path.read_bytes()
    # Width and height in the sample entry follow 24 bytes after the codec's name.
    place = data.index(b"avc1", data.index(b"stsd")) + 28
    path.write_bytes(data[:place] + struct.pack(">HH", 65535, 65535) + data[place + 4 :])
    return path


def without_dimensions(folder: Path) -> Path:
    path = write_video(folder / "zero.gif", 10, codec="gif")
    data = bytearray(path.read_bytes())
    data[6:10] = bytes(4)
    path.write_bytes(bytes(data))
    return path


def hour_of_one_frame(folder: Path) -> Path:
    path = write_video(folder / "short.mp4", 1)
    data = bytearray(path.read_bytes())
    for kind, field in ((b"mvhd", 16), (b"mdhd", 16), (b"tkhd", 24)):
        place = data.index(kind) + 4 + field
        data[place : place + 4] = struct.pack(">I", 3_600_000)
    path.write_bytes(bytes(data))
    return path


def many_frames(folder: Path) -> Path:
    """A GIF of a million pictures of one pixel."""
    head = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(3) + b"\xff" * 3
    picture = b"\x21\xf9\x04\x00\x01\x00\x00\x00\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    path = folder / "many.gif"
    path.write_bytes(head + picture * 1_000_000 + b"\x3b")
    return path


def nested_boxes(folder: Path) -> Path:
    data = b""
    for _ in range(20_000):
        data = struct.pack(">I", 8 + len(data)) + b"moov" + data
        if len(data) > 160_000:
            break
    path = folder / "nested.mp4"
    path.write_bytes(box(b"ftyp", b"isom", bytes(4)) + data)
    return path


def endless_box(folder: Path) -> Path:
    path = folder / "endless.mp4"
    path.write_bytes(box(b"ftyp", b"isom", bytes(4)) + b"\x00\x00\x00\x01moov" + b"\xff" * 8)
    return path


def huge_table(folder: Path) -> Path:
    path = write_video(folder / "table.mp4", 30)
    data = bytearray(path.read_bytes())
    for kind in (b"stsz", b"stts", b"ctts", b"stsc", b"stco"):
        place = data.index(kind) + (12 if kind == b"stsz" else 8)
        data[place : place + 4] = b"\x7f\xff\xff\xff"
    path.write_bytes(bytes(data))
    return path


def huge_times(folder: Path) -> Path:
    plain = write_video(folder / "plain.mp4", 30)
    return remux(plain, folder / "times.mkv", offset_s=1e10)


def lying_count(folder: Path) -> Path:
    path = write_video(folder / "count.mp4", 30)
    data = bytearray(path.read_bytes())
    place = data.index(b"stts") + 12
    data[place : place + 4] = struct.pack(">I", 1_000_000)
    path.write_bytes(bytes(data))
    return path


def endless_asf(folder: Path) -> Path:
    path = write_video(folder / "a.wmv", 30, codec="wmv2")
    data = bytearray(path.read_bytes())
    data[16:30] = struct.pack("<QI", (1 << 63) - 1, 0xFFFFFFFF) + b"\1\2"
    data[46:54] = struct.pack("<Q", 1 << 62)
    path.write_bytes(bytes(data))
    return path


def endless_mxf(folder: Path) -> Path:
    path = write_video(folder / "a.mxf", 30, codec="mpeg2video", fps=25)
    data = bytearray(path.read_bytes())
    # The lengths that follow the keys of sets, and the counts in them.
    for place in range(300, 2000, 37):
        data[place : place + 4] = b"\x7f\xff\xff\xff"
    path.write_bytes(bytes(data))
    return path


def bare_pixel_bomb(folder: Path) -> Path:
    return write_video(folder / "bomb.h264", 4, size=(8192, 4320), draw=quadrants)


def many_units(folder: Path) -> Path:
    path = write_video(folder / "many.h264", 2, b_frames=0)
    path.write_bytes(path.read_bytes() + b"\0\0\1\x09\xf0\0\0\1\x41\x9a\x80" * 300_000)
    return path


def clock_that_never_rests(folder: Path) -> Path:
    path = write_video(folder / "a.ts", 12, gop=4, b_frames=0)
    path.write_bytes(path.read_bytes() * 300)
    return path


HOSTILE = {
    pixel_bomb: {"pixel_limit"},
    # FFmpeg refuses the first picture before it tells its size.
    pixel_bomb_of_jpegs: {"undecodable"},
    lying_about_its_size: {"pixel_limit", "answered"},
    without_dimensions: {"undecodable", "no_video_stream", "codec_not_allowed"},
    hour_of_one_frame: {"video_too_short"},
    many_frames: {"packet_limit"},
    nested_boxes: {"undecodable"},
    endless_box: {"undecodable"},
    huge_table: {"undecodable", "decode_memory_limit", "no_video_stream"},
    huge_times: {"answered", "duration_limit", "undecodable"},
    lying_count: {"answered", "undecodable", "duration_limit"},
    endless_asf: {"answered", "undecodable", "no_video_stream"},
    endless_mxf: {"answered", "undecodable", "no_video_stream", "codec_not_allowed", "stream_limit"},
    bare_pixel_bomb: {"pixel_limit", "undecodable"},
    many_units: {"packet_limit", "undecodable", "video_too_short"},
    clock_that_never_rests: {"answered"},
    lambda folder: write_audio(folder / "sound.mp4"): {"no_video_stream"},
}


@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
async def test_a_hostile_file_gets_its_code_and_the_next_upload_its_answer(tmp_path: Path, make: object) -> None:
    path = make(tmp_path)  # type: ignore[operator]
    good = write_video(tmp_path / "good.mp4")
    async with running(decode_timeout_s=20.0, decode_memory_bytes=1024**3) as pool:
        assert await outcome(pool, path, tmp_path / "out") in HOSTILE[make]  # type: ignore[index]
        assert await outcome(pool, good, tmp_path / "out") == "answered"


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGILL, signal.SIGKILL])
async def test_a_decoder_that_dies_costs_its_own_request_only(tmp_path: Path, number: signal.Signals) -> None:

    long = write_video(tmp_path / "long.mp4", 300)
    slow = SPEC.model_copy(
        update={"frames": 60, "frame_step": 1, "resize": "opencv_bilinear", "resize_short_side": 1500}
    )
    async with running() as pool:
        servers = {server.pid for server in fork_servers()}
        decoding = asyncio.create_task(pool.decode(long, tmp_path / "slow", slow, JobRequest()))
        (await until_decoding(tmp_path / "slow")).send_signal(number)
        with pytest.raises(VidtrError, match=number.name) as caught:
            await decoding
        assert caught.value.code == "decoder_crash"
        assert await outcome(pool, long, tmp_path / "out") == "answered"
        assert {server.pid for server in fork_servers()} == servers


async def test_a_decoder_that_hangs_costs_its_own_request_only(tmp_path: Path) -> None:
    long = write_video(tmp_path / "long.mp4", 300)
    slow = SPEC.model_copy(
        update={"frames": 60, "frame_step": 1, "resize": "opencv_bilinear", "resize_short_side": 1500}
    )
    async with running(decode_workers=2, decode_timeout_s=3.0) as pool:
        clips = tmp_path / "slow"
        decoding = asyncio.create_task(pool.decode(long, clips, slow, JobRequest()))
        worker = await until_decoding(clips)
        # Stopped, it answers nothing and heeds no signal but the last one: as native code that never returns.
        worker.suspend()
        assert await outcome(pool, long, tmp_path / "out") == "answered"
        with pytest.raises(VidtrError) as caught:
            await decoding
        assert caught.value.code == "decode_timeout"
        assert not worker.is_running()
        assert await outcome(pool, long, tmp_path / "out") == "answered"


def mutated(data: bytes, dice: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(dice.choice([1, 2, 5, 20])):
        # Headers decide more than pictures do.
        place = int(len(changed) * dice.random() ** dice.choice([1, 4]))
        kind = dice.randrange(5)
        if kind == 0:
            changed[place : place + 1] = bytes([dice.randrange(256)])
        elif kind == 1:
            changed[place : place + 4] = dice.choice([b"\xff" * 4, b"\x7f\xff\xff\xff", bytes(4), b"\0\0\0\1"])
        elif kind == 2:
            del changed[place : place + dice.choice([1, 8, 300])]
        elif kind == 3:
            changed[place:place] = changed[place : place + dice.choice([4, 64, 600])]
        else:
            changed[place : place + 32] = dice.randbytes(32)
    return bytes(changed[: dice.randrange(len(changed))] if dice.random() < 0.1 and changed else changed)


SEEDS: dict[str, dict[str, Any]] = {
    "a.mp4": {"audio": True},
    "fragments.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "a.mkv": {},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "vp8.webm": {"codec": "libvpx"},
    "mpeg4.avi": {"codec": "mpeg4"},
    "a.ts": {},
    "a.flv": {},
    "a.gif": {"codec": "gif"},
    "a.mpg": {"codec": "mpeg2video", "fps": 25},
    "hevc.mp4": {"codec": "libx265", "codec_options": {"x265-params": "log-level=none"}},
    "mjpeg.mov": {"codec": "mjpeg"},
    "wmv2.wmv": {"codec": "wmv2"},
    "msmpeg4v3.wmv": {"codec": "msmpeg4"},
    "mpeg2.mxf": {"codec": "mpeg2video", "fps": 25},
    "h264.mxf": {},
    "bare.h264": {},
    "bare.hevc": {"codec": "libx265", "codec_options": {"x265-params": "log-level=none"}},
    "flv1.flv": {"codec": "flv"},
    "msmpeg4v2.avi": {"codec": "msmpeg4v2"},
    "cinepak.avi": {"codec": "cinepak"},
    "huffyuv.avi": {"codec": "huffyuv"},
    "dnxhd.mov": {"codec": "dnxhd", "size": (256, 128), "codec_options": {"profile": "dnxhr_lb"}},
}


SEED_NAMES = [*SEEDS]
PROFILES: tuple[Profile, ...] = ("wmv3", "vc1")
VVC = sorted((Path(__file__).parents[2] / "data" / "vvc").glob("*.mp4"))


@pytest.mark.slow
@pytest.mark.timeout(3600)
async def test_mutated_files_are_answered_or_refused_and_leave_nothing_behind(tmp_path: Path) -> None:
    seeds = [write_video(tmp_path / name, 24, **options).read_bytes() for name, options in SEEDS.items()]
    seeds += [write_vc1(tmp_path / f"{profile}.wmv", 24, profile=profile).read_bytes() for profile in PROFILES]
    seeds += [path.read_bytes() for path in VVC]
    # What is recognized behind something else, and boxes that may come first.
    seeds += [bytes(40) + seeds[SEED_NAMES.index("a.mpg")], seeds[SEED_NAMES.index("a.ts")][100:]]
    seeds.append(box(b"uuid", bytes(24)) + seeds[SEED_NAMES.index("a.mp4")])
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    codes: dict[str, int] = {}
    me = psutil.Process()
    rest: list[tuple[int, int, int]] = []

    async with running(decode_workers=2, decode_timeout_s=10.0) as pool:

        async def fuzz(worker: int) -> None:
            for number in range(FUZZ_FIRST + worker, FUZZ_FIRST + FUZZ_FILES, 4):
                dice = random.Random(number)
                path = inputs / str(number)
                path.write_bytes(mutated(seeds[number % len(seeds)], dice))
                code = await outcome(pool, path, inputs / f"{number}.out", JobRequest(windows=1))
                codes[code] = codes.get(code, 0) + 1
                path.unlink()
                (inputs / f"{number}.out").unlink(missing_ok=True)
                if worker == 0 and (number - FUZZ_FIRST) % 200 == 0:
                    memory = sum(server.memory_info().rss for server in fork_servers())
                    rest.append((len(fork_servers()), me.num_fds(), memory // 2**20))

        await asyncio.gather(*(fuzz(worker) for worker in range(4)))
        # Those of the last caller and those of the next, once what has failed is gone.
        async with asyncio.timeout(10):
            while len(sandbox_workers()) > 4:  # noqa: ASYNC110 - they end in another process
                await asyncio.sleep(0.01)
    print(f"{FUZZ_FILES} files: {codes}; processes, descriptors, MiB on the way: {rest[0]} to {rest[-1]}")
    assert sum(codes.values()) == FUZZ_FILES
    assert not {"internal_error", "unforeseen"} & codes.keys()
    assert not fork_servers()
    assert not sandbox_workers()
    assert not list(inputs.iterdir())
    assert rest[-1][0] == 1
    assert rest[-1][1] <= rest[0][1] + 8
    assert rest[-1][2] <= rest[0][2] + 32
