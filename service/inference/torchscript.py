"""The in-process backend: runs TorchScript and ONNX files on the CPU, without any server."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import inf
from pathlib import Path
from time import perf_counter

import numpy as np
import structlog
import torch

from service.contracts import EnginePrecision, ModelSpec
from service.cores import usable_cores
from service.doublings import doublings
from service.errors import BackendFailed, BackendUnavailable, sentence
from service.inference.allocator import tune_malloc
from service.inference.arithmetic import CpuArithmetic, Loaded, check_onnx, load_torchscript
from service.inference.backend import Clips, Scores, checked_scores, served_order, summarize_error
from service.inference.microbatch import clips_of_pass, microbatch
from service.inference.onnx_session import onnx_forward
from service.inference.registry import ModelFile, scan_repository
from service.inference.threads import cpu_seconds, pick_thread_count
from service.model_config import ModelConfigError

_RUNS = 2
# Two hand-overs between threads, each with a wait for the interpreter, cost a short forward a tenth of its time; longer
# than this the event loop is not to stand still.
_BRIEF_S = 0.02
_PROBE_CLIPS = 2

_KINDS = {"pytorch": "a TorchScript file", "onnxruntime": "an ONNX file"}

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class TorchScriptConfig:
    """Where the models are and how many threads one forward takes (0: as many as each model needs and are worth it)."""

    repository: Path
    threads: int = 0
    operators: tuple[str, ...] = ()
    """allowed in the files besides those of `torchscript_archive`"""
    precision: EnginePrecision = "fp32"
    """arithmetic for models exported in float32"""
    cpu: CpuArithmetic | None = None
    """what the CPU multiplies natively; None finds out"""


class TorchScriptBackend:
    """A `service.inference.backend.Backend` that computes in this process.

    All forwards run one after another, so that two batches never fight for the same cores: brief ones within the event
    loop, the others on one dedicated thread. The process keeps the memory that its largest pass took.
    """

    def __init__(self, config: TorchScriptConfig) -> None:
        self._config = config
        self._models: dict[tuple[str, str], _LoadedModel] = {}
        self._executor: ThreadPoolExecutor | None = None
        self._on_thread: Future[Scores] | None = None

    async def start(self) -> None:
        """Load, verify and warm up every model version that the repository serves.

        Raises:
            ModelConfigError: a configuration is wrong or does not fit its file.
            NotADirectoryError: there is no repository.
            PrecisionUnavailable: a model cannot be computed in the arithmetic that the configuration names.
            BackendFailed: a network fails on a clip of zeros, or its outputs are not what the configuration says.
        """
        tune_malloc()
        self._executor = ThreadPoolExecutor(
            max_workers=1,
            thread_name_prefix="torchscript",
        )
        loop = asyncio.get_running_loop()
        try:
            loaded = await loop.run_in_executor(self._executor, _load_all, self._config)
        except BaseException:
            await self.close()
            raise
        self._models = {(model.spec.name, model.spec.version): model for model in loaded}

    async def models(self) -> list[ModelSpec]:
        """See `Backend.models`; the list does not change after `start`."""
        self._running()
        return sorted((model.spec for model in self._models.values()), key=served_order)

    async def infer(self, model: str, version: str, clips: Clips, *, timeout_s: float | None = None) -> Scores:
        """See `Backend.infer`; a forward that has begun runs to its end."""
        executor = self._running()
        loaded = self._models.get((model, version))
        if loaded is None:
            raise BackendFailed(f"Model {model!r} version {version} is not served.")
        _check_clips(loaded.spec, clips)
        thread_is_free = self._on_thread is None or self._on_thread.done()
        if thread_is_free and loaded.clip_s * len(clips) <= _BRIEF_S:
            return loaded.forward(clips)
        self._on_thread = executor.submit(loaded.forward, clips)
        return await asyncio.wrap_future(self._on_thread)

    async def close(self) -> None:
        """See `Backend.close`; a forward that has begun is waited for."""
        executor, self._executor = self._executor, None
        self._models = {}
        if executor is not None:
            await asyncio.to_thread(executor.shutdown)

    def _running(self) -> ThreadPoolExecutor:
        if self._executor is None:
            raise BackendUnavailable("The in-process backend is not running.")
        return self._executor


def _check_clips(spec: ModelSpec, clips: Clips) -> None:
    where = f"Model {spec.name!r} version {spec.version}"
    if clips.dtype != np.uint8:
        raise BackendFailed(f"{where} takes uint8 clips, not {clips.dtype}.")
    shape = ["B", *spec.clip_shape]
    if clips.ndim != 5 or clips.shape[1:] != spec.clip_shape:
        raise BackendFailed(f"{where} takes clips of shape {shape}, not {list(clips.shape)}.")
    if not 1 <= clips.shape[0] <= spec.max_batch_size:
        raise BackendFailed(
            f"{where} takes 1 to {spec.max_batch_size} clips at once, not {clips.shape[0]}.",
            limit=spec.max_batch_size,
            actual=clips.shape[0],
        )


class _LoadedModel:
    """One network in memory."""

    def __init__(self, file: ModelFile, threads: int, config: TorchScriptConfig) -> None:
        self.spec = file.spec
        self.threads = threads
        self.clip_s = inf
        """seconds that a forward of one clip takes"""
        self.fixed_threads = file.runtime == "onnxruntime"
        """whether the engine has made its threads when it loaded the file"""
        try:
            loaded = _loaded(file, threads, config)
        except RuntimeError as error:
            raise ModelConfigError(
                self.spec.name,
                f"file {file.spec.version}/{file.path.name}",
                f"not loadable ({summarize_error(str(error))})",
                _KINDS[file.runtime],
            ) from error
        self._forward, self.spec = loaded.forward, loaded.file.spec

    def forward(self, clips: Clips) -> Scores:
        """Scores of uint8 `[B, T, H, W, 3]`; BackendFailed where the network raises or breaks its contract."""
        # A view of received bytes is read-only, which torch tensors cannot express.
        batch = torch.from_numpy(clips if clips.flags.writeable else clips.copy())
        # OpenMP keeps the thread count per calling thread, so it must be set on the one that computes.
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
        try:
            # The profiling executor re-specializes the graph when a batch size first appears, which costs up to a
            # hundred milliseconds; on a CPU it fuses nothing, and steady forwards were measured equally fast without.
            with torch.inference_mode(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
                result = self._forward(batch)
        except Exception as error:  # TorchScript's own errors derive from no narrower class
            raise BackendFailed(f"Model {self.spec.name!r} failed: {sentence(summarize_error(str(error)))}") from error
        tensors = (result,) if isinstance(result, torch.Tensor) else result
        names = list(self.spec.outputs)
        if not isinstance(tensors, tuple) or len(tensors) != len(names):
            raise BackendFailed(f"Model {self.spec.name!r} does not return the {len(names)} tensors {names}.")
        outputs = {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)}
        return checked_scores(self.spec, outputs, len(clips))

    def warm_up(self) -> None:
        """Run each size of a pass that doubling reaches, and the largest, so that no caller pays for first-use set-up.

        A batch of several passes is not run: it sets up nothing more, and eight clips of a large network take long.
        """
        for size in doublings(self._pass):
            for _ in range(_RUNS):
                self.forward(self._black(size))

    def measure(self) -> None:
        """Find out how long a forward of one clip takes: the best of some, as much goes on while a service starts.

        Whether it is brief is all that is asked of it, so that one which is far from it is not repeated.
        """
        clip = self._black(1)
        for _ in range(_RUNS):
            started = perf_counter()
            self.forward(clip)
            self.clip_s = min(self.clip_s, perf_counter() - started)
            if self.clip_s > 10 * _BRIEF_S:
                break

    def choose_threads(self, cores: int) -> None:
        """Take as many threads as the network needs of the `cores` and are worth it for clips of this size."""
        clips = self._black(min(_PROBE_CLIPS, self._pass))

        def timed(threads: int) -> float:
            self.threads = threads
            return cpu_seconds(lambda: self.forward(clips))

        self.threads = pick_thread_count(timed, cores, len(clips))
        log.info("threads_chosen", model=self.spec.name, version=self.spec.version, threads=self.threads, cores=cores)

    @property
    def _pass(self) -> int:
        return min(clips_of_pass(self.spec.clip_shape), self.spec.max_batch_size)

    def _black(self, clips: int) -> Clips:
        return np.zeros((clips, *self.spec.clip_shape), np.uint8)


def _loaded(file: ModelFile, threads: int, config: TorchScriptConfig) -> Loaded:
    if file.runtime == "onnxruntime":
        check_onnx(file, config.precision)
        return Loaded(microbatch(onnx_forward(file.path, file.spec, threads)), file)
    return load_torchscript(file, config.precision, config.cpu or CpuArithmetic.of_this_machine(), config.operators)


def _load_all(config: TorchScriptConfig) -> list[_LoadedModel]:
    # What torch takes by itself heeds its environment, but no quota of a container.
    cores = min(torch.get_num_threads(), usable_cores())
    models = [_LoadedModel(file, config.threads or cores, config) for file in scan_repository(config.repository)]
    for model in models:
        model.warm_up()
        if not config.threads and not model.fixed_threads:
            model.choose_threads(cores)
        model.measure()
    return models
