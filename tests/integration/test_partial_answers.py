"""Windows of a job that are told as they are scored."""

from __future__ import annotations

from service.aggregate import aggregate
from service.api.partial_answers import WINDOWS_AT_ONCE, PartialAnswer
from service.contracts import JobRequest, ModelSpec
from service.queue.job_store import JobStore
from testing.factories import decoded, record, scores, spec

ALL = JobRequest(windows="all")


async def served() -> list[ModelSpec]:
    return [spec()]


async def test_each_window_is_told_once_when_all_its_crops_are_scored(store: JobStore) -> None:
    job = record(request=ALL, decoded=decoded(windows=3, crops=3))
    await store.accept(job)
    partial = PartialAnswer(job.id, store, served)
    await store.record_scores({(job.id, clip): scores() for clip in (0, 1, 2, 3, 6, 7, 8)})
    assert [number for number, _ in await partial.news()] == [0, 2]
    await store.record_scores({(job.id, 4): scores()})
    assert await partial.news() == []
    await store.record_scores({(job.id, 5): scores()})
    assert [number for number, _ in await partial.news()] == [1]


async def test_a_window_is_told_as_the_answer_has_it(store: JobStore) -> None:
    job = record(request=ALL, decoded=decoded(windows=2, crops=3))
    await store.accept(job)
    by_clip = [scores((0.1 * clip, 1.0, -0.3 * clip, 0.5)) for clip in range(6)]
    await store.record_scores({(job.id, clip): by_clip[clip] for clip in range(3)})
    ((number, window),) = await PartialAnswer(job.id, store, served).news()
    kept = await store.scores_of(job.id, range(3))
    whole = aggregate(job, spec(), [*(kept[clip] for clip in range(3)), *by_clip[3:]], job.created_at)
    assert (number, window) == (0, whole.windows[0])


async def test_the_windows_of_a_film_are_told_some_at_a_time(store: JobStore) -> None:
    windows = WINDOWS_AT_ONCE + 10
    job = record(request=ALL, decoded=decoded(windows=windows))
    await store.accept(job)
    await store.record_scores({(job.id, clip): scores() for clip in range(windows - 1)})
    partial = PartialAnswer(job.id, store, served)
    assert [number for number, _ in await partial.news()] == list(range(WINDOWS_AT_ONCE))
    assert [number for number, _ in await partial.news()] == list(range(WINDOWS_AT_ONCE, windows - 1))


async def test_a_cancelled_job_tells_nothing_more(store: JobStore) -> None:
    job = record(request=ALL, decoded=decoded(windows=3))
    await store.accept(job)
    partial = PartialAnswer(job.id, store, served)
    await store.record_scores({(job.id, 0): scores()})
    assert len(await partial.news()) == 1
    await store.record_scores({(job.id, 1): scores()})
    await store.cancel(job.id)
    assert await partial.news() == []
    assert await PartialAnswer(job.id, store, served).news() == []


async def test_a_model_that_is_served_no_more_tells_nothing(store: JobStore) -> None:
    async def others() -> list[ModelSpec]:
        return [spec(weights_sha256="f" * 64)]

    job = record(request=ALL, decoded=decoded(windows=3))
    await store.accept(job)
    await store.record_scores({(job.id, 0): scores()})
    assert await PartialAnswer(job.id, store, others).news() == []
