"""The windows of a job as they are scored, for a caller who follows it: read only where somebody does."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterator

from service.aggregate import window_result
from service.contracts import ClipScores, JobRecord, ModelSpec, WindowResult
from service.queue.job_store import JobStore

# So many windows are asked for at a time: a film has thousands, of which a few are scored between two looks.
WINDOWS_AT_ONCE = 64


class PartialAnswer:
    """The windows of one job that were not told yet.

    Jobs whose clips are all scored at once have none: their answer is there.
    """

    def __init__(
        self,
        job_id: str,
        store: JobStore,
        served: Callable[[], Awaitable[list[ModelSpec]]],
        latest: Callable[[], JobRecord | None] = lambda: None,
    ) -> None:
        """`served` gives the models of live workers, whose labels an answer has.

        `latest` gives the record of a job whose video is still being decoded: what Redis has of it is the plan.
        """
        self._job_id = job_id
        self._store = store
        self._served = served
        self._latest = latest
        self._known: tuple[JobRecord, ModelSpec] | None = None
        self._left: deque[int] = deque()
        self._scores: dict[int, ClipScores] = {}

    async def news(self) -> list[tuple[int, WindowResult]]:
        """Numbers and results of windows that were scored since the last call, by their number.

        None once the job has ended, or where its model is served no more. Raises QueueUnavailable.
        """
        self._known = self._known or await self._learn()
        if self._known is None:
            return []
        record, spec = self._known
        record = self._latest() or record
        crops = record.decoded.crops
        asked = [self._left[i] for i in range(min(WINDOWS_AT_ONCE, len(self._left)))]
        lacking = [clip for w in asked for clip in range(w * crops, (w + 1) * crops) if clip not in self._scores]
        self._scores |= await self._store.scores_of(self._job_id, lacking)
        done = [w for w in asked if all(clip in self._scores for clip in range(w * crops, (w + 1) * crops))]
        return list(self._taken(done, record, spec))

    def _taken(self, windows: list[int], record: JobRecord, spec: ModelSpec) -> Iterator[tuple[int, WindowResult]]:
        crops = record.decoded.crops
        for w in windows:
            scores = [self._scores.pop(clip) for clip in range(w * crops, (w + 1) * crops)]
            self._left.remove(w)
            yield w, window_result(spec, record.request, record.decoded, w, scores)

    async def _learn(self) -> tuple[JobRecord, ModelSpec] | None:
        record = await self._store.record(self._job_id)
        if record is None:
            return None
        model = record.spec
        wanted = (model.name, model.version, model.weights_sha256)
        for spec in await self._served():
            of_route = not model.route or spec.route in ("", model.route)
            if of_route and (spec.name, spec.version, spec.weights_sha256) == wanted:
                self._left.extend(range(len(record.decoded.windows)))
                return record, spec
        return None
