"""Classification without a server: decode pool, TorchScript backend and aggregation in this process."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from uuid import uuid4

import numpy as np
from anyio.from_thread import BlockingPortal, start_blocking_portal

from service.aggregate import aggregate, check_embedding, window_result
from service.causal_evidence import check_evidence_window, evidence_plan
from service.cli.fetched import Fetched
from service.client import OnWindow, VideoUrl
from service.contracts import ClipScores, DecodedVideo, JobClass, JobRecord, JobRequest, JobResult, ModelRef, ModelSpec
from service.cores import usable_cores
from service.digest import file_sha256
from service.errors import InvalidOption, UnknownModel
from service.evidence import plan, variants
from service.inference.arithmetic import CpuArithmetic
from service.inference.backend import Backend
from service.inference.torchscript import TorchScriptBackend, TorchScriptConfig
from service.settings import Settings
from service.spatial_views import check_spatial
from service.video.config import DecodeConfig
from service.video.held_clips import HeldClips
from service.video.pool import DecodePool
from service.video.supply import Supply
from service.wire import ModelInfo
from service.worker.batch import clip_scores


@contextmanager
def classifier_in_process(settings: Settings, *, emulate: bool = False) -> Iterator[InProcess]:
    """Decode pool, engine and aggregation, started; threads may use them at the same time.

    With `emulate` the engine computes in the arithmetic of the settings also where the CPU lacks it, slowly.
    """
    pipeline = _pipeline(settings, emulate=emulate)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(pipeline) as started:
        yield InProcess(portal, started)


class InProcess:
    """Classifies with the models of the repository."""

    def __init__(self, portal: BlockingPortal, pipeline: _Pipeline) -> None:
        self._portal = portal
        self._pipeline = pipeline

    def classify(self, video: Path | VideoUrl, options: JobRequest, on_window: OnWindow | None = None) -> JobResult:
        """The answer for a file, or for a URL, which this process fetches as far as it reads it.

        `on_window` is called with each window as it is scored, in the thread of the pipeline.
        """
        return self._portal.call(self._pipeline.classify, video, options, on_window)

    def model(self, ref: ModelRef) -> ModelInfo:
        """The model that gave an answer."""
        options = JobRequest(model=ref.name, version=ref.version)
        return ModelInfo.of(self._portal.call(self._pipeline.spec, options), default=False)


class _Pipeline:
    def __init__(self, settings: Settings, pool: DecodePool, backend: Backend, scratch: Path) -> None:
        self._settings = settings
        self._pool = pool
        self._backend = backend
        self._scratch = scratch
        self._fetched = Fetched(settings, scratch)

    async def classify(self, video: Path | VideoUrl, options: JobRequest, on_window: OnWindow | None) -> JobResult:
        """Fetch, decode, score in batches, aggregate."""
        created_at, began = time.time(), time.monotonic()
        spec = await self.spec(options)
        if options.evidence_label is not None and options.evidence_label not in spec.labels:
            detail = f"Model {spec.name} has no label {options.evidence_label!r}. Its labels: {', '.join(spec.labels)}."
            raise InvalidOption(detail, actual=options.evidence_label)
        clips_path = self._scratch / uuid4().hex
        try:
            if isinstance(video, VideoUrl):
                sha256 = ""
                async with self._fetched.open(video.url) as spool:
                    source = spool.source
                    scored = self._scored(spool.upload, clips_path, spec, options, on_window, source)
                    decoded, scores = await scored
                    if source is not None:
                        decoded = decoded.model_copy(update={"source": source.read})
            else:
                sha256 = await asyncio.to_thread(file_sha256, video)
                decoded, scores = await self._scored(video, clips_path, spec, options, on_window)
        finally:
            clips_path.unlink(missing_ok=True)
        record = JobRecord(
            id=uuid4().hex,
            request=options,
            spec=spec.job_model,
            decoded=decoded,
            created_at=created_at,
            enqueued_at=created_at,
            deadline_at=created_at + self._settings.job_deadline_s,
            upload_ms=0.0,
            video_sha256=sha256,
            evidence=evidence_plan(options, spec.frames),
        )
        return aggregate(record, spec, scores, created_at + time.monotonic() - began)

    async def _scored(
        self,
        path: Path,
        clips_path: Path,
        spec: ModelSpec,
        options: JobRequest,
        on_window: OnWindow | None,
        supply: Supply | None = None,
    ) -> tuple[DecodedVideo, list[ClipScores]]:
        """What was decoded to `clips_path`, and the scores of its clips; `supply` fetches what is read of `path`."""
        async with self._pool.slot(JobClass.INTERACTIVE, "") as slot:
            decoded = await slot.decode(path, clips_path, spec.clip, options, supply=supply)
        check_evidence_window(evidence_plan(options, spec.frames), len(decoded.windows))
        scores: list[ClipScores] = []
        batch_bytes = spec.max_batch_size * spec.clip_bytes
        with HeldClips(clips_path, decoded.clip_count * spec.clip_bytes) as pixels:
            for first in range(0, len(pixels), batch_bytes):
                clips = np.frombuffer(pixels[first : first + batch_bytes], np.uint8).reshape(-1, *spec.clip_shape)
                started = time.perf_counter()
                outputs = await self._backend.infer(spec.name, spec.version, clips)
                inference_ms = (time.perf_counter() - started) * 1000
                before = len(scores) // decoded.crops
                spatial = options.attention == "spatial"
                scores += [
                    clip_scores(outputs, row, 0.0, inference_ms, spatial=spatial) for row in range(len(outputs.logits))
                ]
                if on_window is not None:
                    for w in range(before, len(scores) // decoded.crops):
                        crops = scores[w * decoded.crops : (w + 1) * decoded.crops]
                        on_window(w, window_result(spec, options, decoded, w, crops))
            scores += await self._without_frames(spec, options, decoded, pixels)
        return decoded, scores

    async def _without_frames(
        self, spec: ModelSpec, options: JobRequest, decoded: DecodedVideo, pixels: HeldClips
    ) -> list[ClipScores]:
        """The scores that evidence takes beside those of the whole clips: its views for each set of frames."""
        planned = evidence_plan(options, spec.frames)
        if planned is None:
            return []
        masks = plan(spec.frames, planned.orders).masks
        by_view = []
        views = range(decoded.clip_count)
        if planned.window is not None:
            views = views[planned.window * decoded.crops : (planned.window + 1) * decoded.crops]
        for view in views:
            first = view * spec.clip_bytes
            clip = np.frombuffer(pixels[first : first + spec.clip_bytes], np.uint8).reshape(spec.clip_shape)
            of_view: list[ClipScores] = []
            for begin in range(0, len(masks), spec.max_batch_size):
                started = time.perf_counter()
                batch = variants(clip, masks[begin : begin + spec.max_batch_size])
                outputs = await self._backend.infer(spec.name, spec.version, batch)
                inference_ms = (time.perf_counter() - started) * 1000
                of_view += [clip_scores(outputs, row, 0.0, inference_ms, masked=True) for row in range(len(batch))]
            by_view.append(of_view)
        return [of_view[mask] for mask in range(len(masks)) for of_view in by_view]

    async def spec(self, options: JobRequest) -> ModelSpec:
        """The model that `options` ask for. Raises UnknownModel."""
        name = options.model or self._settings.default_model
        found = [
            spec
            for spec in await self._backend.models()
            if spec.name == name and options.version in (None, spec.version)
        ]
        if not found:
            detail = f"Model {name!r} is not in {self._settings.model_repository}."
            raise UnknownModel(detail, actual=name)
        newest = max(found, key=lambda spec: int(spec.version))
        check_embedding(newest, options)
        check_spatial(newest, options)
        return newest


@asynccontextmanager
async def _pipeline(settings: Settings, *, emulate: bool) -> AsyncIterator[_Pipeline]:
    pool = DecodePool(settings.subset(DecodeConfig))
    backend = TorchScriptBackend(
        TorchScriptConfig(
            settings.model_repository,
            settings.torch_threads or usable_cores(),
            settings.torchscript_operators,
            settings.engine_precision,
            CpuArithmetic(bf16=True, int8=True) if emulate else None,
        )
    )
    with tempfile.TemporaryDirectory(prefix="vidtr-classify-") as scratch:
        try:
            await asyncio.gather(pool.start(), backend.start())
            yield _Pipeline(settings, pool, backend, Path(scratch))
        finally:
            await asyncio.gather(pool.close(), backend.close())
