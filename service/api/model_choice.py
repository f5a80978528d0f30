"""Which of the models that live workers serve a request gets, and whether it can have what it asks for."""

from __future__ import annotations

import asyncio
import math

from service.aggregate import check_embedding
from service.contracts import JobRequest, ModelSpec
from service.errors import RETRY_AFTER_S, BackendUnavailable, EvidenceUnavailable, InvalidOption, UnknownModel
from service.queue.clip_routes import masked_route_of
from service.queue.fleet import Fleet
from service.queue.live_models import Live, LiveModels
from service.queue.model_directory import ModelDirectory
from service.spatial_views import check_spatial
from service.video.windows import check_stride

LIVE_S = 1.0
# Where an upload would be refused for what was read, it is read again if it is older.
REFUSAL_S = 0.1


class ModelChoice:
    """What live workers serve, read at most once a second by all uploads of a process together."""

    def __init__(self, models: LiveModels, default_model: str) -> None:
        self._models = models
        self._default_model = default_model
        self._live: Live = [], Fleet({})
        self._live_at = -math.inf
        self._reading = asyncio.Lock()

    async def pick(self, options: JobRequest) -> tuple[ModelSpec, list[ModelSpec], Fleet]:
        """The model that is asked for, all models that are served, and the workers.

        Raises:
            UnknownModel: no worker serves it.
            BackendUnavailable: none serves anything, or the engine of those that serve it is away.
            EvidenceUnavailable: none of them can leave frames out.
            InvalidOption: an option is not one of this model.
        """
        for most_age_s in (LIVE_S, REFUSAL_S):
            served, fleet = await self.live(most_age_s)
            try:
                spec = ModelDirectory.pick(served, options.model or self._default_model, options.version)
                check_breakers(spec, fleet)
            except (BackendUnavailable, UnknownModel):
                if most_age_s == REFUSAL_S:
                    raise
            else:
                break
        check_embedding(spec, options)
        check_spatial(spec, options)
        check_stride(spec, options)
        if options.evidence != "none":
            _check_evidence(spec, fleet, options)
        return spec, served, fleet

    async def live(self, most_age_s: float = LIVE_S) -> Live:
        """The live models and workers, as they were `most_age_s` ago or later."""
        now = asyncio.get_running_loop().time
        if now() - self._live_at > most_age_s:
            async with self._reading:
                # Another upload may have read them meanwhile.
                if (asked := now()) - self._live_at > most_age_s:
                    self._live = await self._models.live()
                    self._live_at = asked
        return self._live


def _check_evidence(spec: ModelSpec, fleet: Fleet, options: JobRequest) -> None:
    if not fleet.serving(masked_route_of(spec)):
        detail = (
            f"No worker of model {spec.name} can measure evidence: they are of an earlier release. Try again later."
        )
        raise EvidenceUnavailable(detail, retry_after_s=RETRY_AFTER_S)
    if options.evidence_label is not None and options.evidence_label not in spec.labels:
        detail = f"Model {spec.name} has no label {options.evidence_label!r}. GET /v1/models lists its labels."
        raise InvalidOption(detail, actual=options.evidence_label)


def check_breakers(spec: ModelSpec, fleet: Fleet) -> None:
    """Raise BackendUnavailable where the circuit breaker of every worker that serves the model is open."""
    if (retry_in_s := fleet.engine_away_s(spec)) is not None:
        detail = f"The inference backend of model {spec.name} does not respond. Try again later."
        raise BackendUnavailable(detail, retry_after_s=max(1.0, retry_in_s))
