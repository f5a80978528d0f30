"""The queue of the benchmarks is that of the service, with real workers, up to the result."""

from pathlib import Path

import pytest

from benchmarks.common.enqueue import broker
from benchmarks.common.fixed import command, fixed_spec
from service.queue.clip_routes import route_of

SPEC = fixed_spec(4, 2, 8)


async def test_a_clip_goes_through_the_queue_of_the_benchmarks(tmp_path: Path) -> None:
    async with broker(tmp_path, command(0.05, SPEC)) as queue:
        assert queue.spec == SPEC.model_copy(update={"route": route_of(SPEC)})
        [clip] = queue.clips(1)
        timed = await queue.queue.classify(queue.spec, memoryview(clip).cast("B"))
        assert timed.result.timings_ms.inference >= 50
        assert timed.total_s >= timed.enqueue_s + 0.05
        assert await queue.metric("vidtr_batch_clips_sum") == 1


async def test_a_worker_that_does_not_come_up_is_reported_with_what_it_says(tmp_path: Path) -> None:
    broken = [*command(0.0, SPEC), "unexpected"]
    with pytest.raises(RuntimeError, match="too many values to unpack"):
        async with broker(tmp_path, broken):
            pass
