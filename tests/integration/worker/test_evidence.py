"""Jobs with evidence, with real Redis and a real TorchScript network: what is left out, scored, and concluded."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from service.aggregate import probabilities
from service.causal_evidence import evidence_plan
from service.contracts import JobClass, JobRecord, JobRequest, JobState, WindowEvidence
from service.errors import BackendFailed
from service.evidence import Clip, Kept, Values, evidence, variants
from service.inference.backend import Clips, Scores
from service.queue.clip_entries import ClipEntry
from service.queue.clip_routes import masked_route_of, model_of, route_of
from service.queue.clip_stream import ClipStream
from tests.fixtures.keyspace import names_like
from tests.fixtures.tiny_models import FRAMES
from tests.fixtures.tiny_models import random_clips as commanding
from tests.integration.worker.rig import Counting, Relay, Rig

SETS = 1 << FRAMES
CAUSAL = JobRequest(evidence="causal")


def random_clips(count: int, seed: int = 0) -> Clips:
    """Clips of which no frame has a command, whichever comes first."""
    clips = commanding(count, seed)
    clips[:, :, 0, 0, 0] = 0
    return clips


async def submitted(rig: Rig, clips: Clips, request: JobRequest = CAUSAL) -> JobRecord:
    """A job with evidence, accepted as the api does it."""
    spec = await rig.spec()
    model = spec.job_model.model_copy(update={"route": masked_route_of(spec)})
    plan = evidence_plan(request, FRAMES)
    return await rig.submit(clips, spec=model, request=request, evidence=plan, job_class=JobClass.BULK)


async def found_by(rig: Rig, job: JobRecord) -> list[WindowEvidence]:
    ended = await rig.ended(job)
    assert ended.result is not None, ended.error
    return [window.evidence for window in ended.result.windows if window.evidence is not None]


async def by_brute_force(rig: Rig, clip: Clip, label: str) -> Values:
    """The contributions `(T,)` of one clip's frames, with no queue, no worker and no aggregation of the service."""
    spec = await rig.spec()
    scores: dict[bytes, float] = {}
    every = np.array([[bool(m >> t & 1) for t in range(FRAMES)] for m in range(SETS)])
    for kept in every:
        [logits] = (await rig.backend.infer(spec.name, spec.version, variants(clip, kept[None]))).logits
        scores[kept.tobytes()] = float(
            probabilities(logits.astype(np.float64), spec.activation)[spec.labels.index(label)]
        )

    def value(kept: Kept) -> Values:
        return np.array([scores[one.tobytes()] for one in kept])

    return evidence(value, FRAMES).contributions


async def test_contributions_are_those_of_a_search_over_all_sets(rig: Rig) -> None:
    clips = random_clips(3, seed=5)
    job = await submitted(rig, clips)
    async with rig.working():
        causes = await found_by(rig, job)
    assert len(causes) == 3
    for clip, cause in zip(clips, causes, strict=True):
        got = [frame.contribution for frame in cause.frames]
        np.testing.assert_allclose(got, await by_brute_force(rig, clip, cause.label), atol=1e-5)
        assert sum(got) == pytest.approx(cause.score - cause.still_score, abs=1e-4)
        assert cause.error == 0


async def test_evidence_of_one_window_takes_its_clips_alone(rig: Rig) -> None:
    clips = random_clips(3, seed=11)
    job = await submitted(rig, clips, JobRequest(evidence="causal", evidence_window=1))
    backend = Counting(rig.backend)
    async with rig.working(backend):
        ended = await rig.ended(job)
    assert ended.result is not None, ended.error
    first, cause, last = (window.evidence for window in ended.result.windows)
    assert (first, last) == (None, None)
    assert cause is not None
    got = [frame.contribution for frame in cause.frames]
    np.testing.assert_allclose(got, await by_brute_force(rig, clips[1], cause.label), atol=1e-5)
    assert sum(backend.seen) == 2 + SETS
    assert (await rig.store.status(job.id)).clips_total == 2 + SETS


async def test_evidence_is_for_the_label_that_is_named(rig: Rig) -> None:
    clips = random_clips(1, seed=6)
    job = await submitted(rig, clips, JobRequest(evidence="causal", evidence_label="static"))
    async with rig.working():
        [cause] = await found_by(rig, job)
    assert cause.label == "static"
    got = [frame.contribution for frame in cause.frames]
    np.testing.assert_allclose(got, await by_brute_force(rig, clips[0], "static"), atol=1e-5)


async def test_each_set_of_frames_is_scored_once_and_counted(rig: Rig) -> None:
    job = await submitted(rig, random_clips(2))
    backend = Counting(rig.backend)
    async with rig.working(backend):
        causes = await found_by(rig, job)
    answer = (await rig.store.status(job.id)).result
    assert answer is not None
    assert answer.evidence_cost is not None
    assert sum(backend.seen) == 2 * SETS == answer.evidence_cost.forwards
    assert [cause.forwards for cause in causes] == [SETS, SETS]
    assert answer.evidence_cost.engine_ms > 0
    assert (await rig.store.status(job.id)).clips_total == 2 * SETS


class FirstAndLast(Relay):
    """Scores the second label 0.7 where it sees the first and the last frame of a clip whose frames are numbered."""

    async def infer(self, model: str, version: str, clips: Clips, *, timeout_s: float | None = None) -> Scores:
        outputs = await super().infer(model, version, clips, timeout_s=timeout_s)
        numbers = clips[:, :, 4, 4, 0]
        both = (numbers == 0).any(1) & (numbers == FRAMES - 1).any(1)
        score = np.where(both, 0.7, 0.2)
        logits = np.zeros_like(outputs.logits)
        logits[:, 1] = np.log(2 * score / (1 - score))
        return replace(outputs, logits=logits)


async def test_frames_that_count_alike_share_alike_and_those_that_do_not_count_have_nothing(rig: Rig) -> None:
    numbered = np.empty((1, FRAMES, 8, 8, 3), np.uint8)
    numbered[:] = np.arange(FRAMES, dtype=np.uint8)[:, None, None, None]
    job = await submitted(rig, numbered)
    async with rig.working(FirstAndLast(rig.backend)):
        [cause] = await found_by(rig, job)
    assert cause.label == "pan_left"
    assert [cause.score, cause.still_score] == pytest.approx([0.7, 0.2])
    np.testing.assert_allclose([frame.contribution for frame in cause.frames], [0.25, 0, 0, 0.25], atol=1e-6)
    assert [frame.frame for frame in cause.frames if frame.enough] == [0, 3]


class Refusing(Relay):
    """Fails where a clip shows a frame twice, and so only where one is left out."""

    async def infer(self, model: str, version: str, clips: Clips, *, timeout_s: float | None = None) -> Scores:
        if any((clip[1:] == clip[:-1]).all(axis=(1, 2, 3)).any() for clip in clips):
            raise BackendFailed("the network said no")
        return await super().infer(model, version, clips, timeout_s=timeout_s)


async def test_a_clip_with_frames_left_out_that_fails_fails_its_job_with_its_code(rig: Rig) -> None:
    job = await submitted(rig, random_clips(1))
    async with rig.working(Refusing(rig.backend)):
        ended = await rig.ended(job)
    assert ended.status is JobState.FAILED
    assert ended.error is not None
    assert ended.error["code"] == "backend_failed"


@pytest.mark.parametrize("window", [None, 1])
async def test_a_replayed_job_with_evidence_gets_the_answer_that_it_would_have_had(
    rig: Rig, window: int | None
) -> None:
    clips, request = random_clips(3, seed=8), JobRequest(evidence="causal", evidence_window=window)
    job = await submitted(rig, clips, request)
    async with rig.working(Refusing(rig.backend)):
        await rig.ended(job)
    other = await submitted(rig, clips, request)
    async with rig.working():
        want = await found_by(rig, other)
        await rig.dead.replay(job.id)
        got = await found_by(rig, job)
    assert [cause.frames for cause in got] == [cause.frames for cause in want]


async def test_entries_of_a_worker_that_died_are_scored_by_another_to_the_same_answer(rig: Rig) -> None:
    clips = random_clips(2, seed=9)
    whole, cut = await submitted(rig, clips), await submitted(rig, clips)
    lost = ClipStream(rig.redis, rig.keys, "lost")
    await lost.join([cut.spec.route])
    entries = await lost.read([cut.spec.route], SETS + 20, 10)
    assert len(entries) == SETS + 20, "it holds some of both jobs, with whole clips and others"
    async with rig.working():
        want, got = await found_by(rig, whole), await found_by(rig, cut)
    assert [cause.frames for cause in got] == [cause.frames for cause in want]


async def test_scores_that_are_written_twice_count_once(rig: Rig) -> None:
    """A worker dies after it wrote scores: its entries come again, while others of the same clip still wait."""
    job = await submitted(rig, random_clips(1, seed=10))
    lost = ClipStream(rig.redis, rig.keys, "lost")
    await lost.join([job.spec.route])
    entries = await lost.read([job.spec.route], 5, 10)
    [scored] = await rig.scores_of(random_clips(1, seed=10))
    await rig.store.record_scores({(job.id, entry.clip): scored for entry in entries})
    async with rig.working():
        assert (await rig.ended(job)).status is JobState.SUCCEEDED


async def test_a_finished_job_with_evidence_leaves_no_entry_and_no_payload(rig: Rig) -> None:
    job = await submitted(rig, random_clips(2))
    async with rig.working():
        await found_by(rig, job)
    assert await rig.redis.xlen(rig.keys.clips(job.spec.route, JobClass.BULK)) == 0
    assert await names_like(rig.redis, f"{rig.keys.prefix}:clip:*") == set()


async def test_the_bytes_of_a_clip_are_stored_once_and_fetched_once_for_a_batch(rig: Rig) -> None:
    clips = random_clips(2, seed=3)
    job = await submitted(rig, clips)
    assert len(await names_like(rig.redis, f"{rig.keys.prefix}:clip:*")) == 2
    stream = ClipStream(rig.redis, rig.keys, "one")
    await stream.join([job.spec.route])
    entries = await stream.read([job.spec.route], 2 * SETS, 10)
    assert [entry.payload for entry in entries] == [0] * SETS + [1] * SETS, "all that show a view come together"
    states = await stream.look_up(entries[:SETS])
    assert len({id(state.payload) for state in states}) == 1
    assert states[0].payload == clips[0].tobytes()


async def test_a_worker_of_an_earlier_release_finds_no_clip_of_such_a_job(rig: Rig) -> None:
    job = await submitted(rig, random_clips(1))
    spec = await rig.spec()
    routes = [spec.name, route_of(spec)]
    before = ClipStream(rig.redis, rig.keys, "before")
    await before.join(routes)
    assert await before.read(routes, 8, 10) == []
    assert model_of(job.spec.route) == spec.name


async def test_a_view_stays_until_the_last_clip_that_is_made_of_it(rig: Rig) -> None:
    job = await submitted(rig, random_clips(1))
    stream = ClipStream(rig.redis, rig.keys, "one")
    await stream.join([job.spec.route])
    entries = await stream.read([job.spec.route], SETS, 10)
    [scored] = await rig.scores_of(random_clips(1))

    async def settled(some: list[ClipEntry]) -> None:
        await rig.store.record_scores({(job.id, entry.clip): scored for entry in some}, some)
        await stream.ack(some)

    await asyncio.gather(settled(entries[:1]), settled(entries[1:4]))
    assert await rig.redis.exists(rig.keys.payload(job.id, 0))
    assert all(state.payload for state in await stream.look_up(entries[4:]))
