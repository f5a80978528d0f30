"""How slow an upload may be."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from service.api.upload import UploadsEnd, UploadTimes, _Patience
from service.errors import Draining, UploadTimeout
from tests.virtual_loop import virtual_time


async def sent(*pieces: tuple[float, int]) -> AsyncIterator[bytes]:
    """So many bytes, each after a pause."""
    for pause_s, size in pieces:
        await asyncio.sleep(pause_s)
        yield bytes(size)


async def all_of(waiting: _Patience, stream: AsyncIterator[bytes]) -> None:
    while True:
        await waiting.next(stream)


def patience(end: UploadsEnd | None = None, **changes: float) -> _Patience:
    values = {"upload_idle_s": 20.0, "upload_timeout_s": 60.0, "upload_min_bytes_per_s": 1000, "upload_grace_s": 0.05}
    return _Patience(UploadTimes(**values | changes), end or UploadsEnd())  # type: ignore[arg-type]


@virtual_time
async def test_an_upload_that_drips_is_cut_off_and_told_how_fast_it_was() -> None:
    with pytest.raises(UploadTimeout, match="less than 1000 bytes per second") as caught:
        await all_of(patience(), sent(*(100 * [(0.02, 1)])))
    assert caught.value.limit == 1000
    assert isinstance(caught.value.actual, int)
    assert caught.value.actual < 1000


@virtual_time
async def test_a_silent_upload_ends_with_its_grace() -> None:
    with pytest.raises(UploadTimeout, match="0 bytes arrived") as caught:
        await patience().next(sent((10.0, 1)))
    assert caught.value.actual == 0


@virtual_time
async def test_bytes_that_came_at_once_may_be_followed_by_a_pause_as_long_as_they_would_have_taken() -> None:
    waiting, stream = patience(upload_grace_s=0.01), sent((0.0, 1_000_000), (0.1, 1))
    assert len(await waiting.next(stream)) == 1_000_000
    assert len(await waiting.next(stream)) == 1


@virtual_time
async def test_the_time_that_the_service_takes_itself_does_not_count() -> None:
    waiting, stream = patience(), sent((0.0, 10), (0.0, 10))
    await waiting.next(stream)
    await asyncio.sleep(0.2)
    assert len(await waiting.next(stream)) == 10


@virtual_time
async def test_without_a_least_speed_only_pauses_end_an_upload() -> None:
    waiting = patience(upload_min_bytes_per_s=0, upload_idle_s=0.05)
    stream = sent((0.02, 1), (0.02, 1), (0.02, 1), (0.2, 1))
    for _ in range(3):
        await waiting.next(stream)
    with pytest.raises(UploadTimeout, match="No bytes arrived"):
        await waiting.next(stream)


@virtual_time
async def test_an_upload_that_a_stop_overtakes_is_refused_and_told_to_come_again() -> None:
    end = UploadsEnd()
    waiting, stream = patience(end), sent((0.0, 10), (30.0, 1))
    await waiting.next(stream)
    arriving = asyncio.ensure_future(waiting.next(stream))
    await asyncio.sleep(0)
    end.end_after(0.01)
    with pytest.raises(Draining, match="10 bytes of the upload had arrived") as caught:
        await arriving
    assert caught.value.retry_after_s


@virtual_time
async def test_an_upload_that_is_complete_before_the_stop_is_taken() -> None:
    end = UploadsEnd()
    end.end_after(30.0)
    assert len(await patience(end).next(sent((0.01, 10)))) == 10
