"""The backend that asks a Triton Inference Server over gRPC."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
import numpy as np
from tritonclient.grpc import InferInput, InferRequestedOutput, InferResult
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from service.contracts import ModelSpec
from service.errors import BackendFailed, BackendUnavailable, VidtrError, sentence
from service.inference.backend import Clips, Scores, checked_scores, served_order, summarize_error
from service.inference.shared_memory import UNKNOWN_REGION, SharedInputs, Slot
from service.inference.spec import INPUT, spec_from_config
from service.inference.triton_access import client
from service.model_config import ModelConfigError

logger = logging.getLogger(__name__)

_INT32_MAX = 2**31 - 1

_CHANNEL_OPTIONS = [
    ("grpc.max_send_message_length", _INT32_MAX),
    ("grpc.max_receive_message_length", _INT32_MAX),
    # Triton closes connections that are pinged more often than every five minutes. The interval matters little: with
    # keepalive on, gRPC also tells TCP to give up after the timeout on sent bytes that are not acknowledged.
    ("grpc.keepalive_time_ms", 300_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # gRPC's own back-off grows to two minutes, far longer than a server takes to come back.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Behind a headless service the name resolves to every replica; the default would use only the first.
    ("grpc.lb_policy_name", "round_robin"),
]

_UNREGISTER_TIMEOUT_S = 2.0

# What a server says that is overloaded, restarting or unreachable. NOT_FOUND is in between: see `translate`.
_TRANSIENT = frozenset({"UNAVAILABLE", "CANCELLED", "DEADLINE_EXCEEDED"})


@dataclass(frozen=True, slots=True)
class TritonConfig:
    """gRPC address `host:port`, and the longest that one call may take, in seconds."""

    url: str
    timeout_s: float = 30.0
    headers: Callable[[], dict[str, str]] = dict
    """metadata of each call, such as the context of a trace"""
    key: str | None = None
    """what the server lets in, where it asks for a key"""
    shared_memory: bool = False
    """whether clips go through the shared memory of the host, which must be Triton's too"""


class TritonBackend:
    """A `service.inference.backend.Backend` in front of Triton.

    The connection is made when it is needed and made again after Triton restarts; nothing has to be called for that.
    """

    def __init__(self, config: TritonConfig) -> None:
        self._config = config
        self._client: InferenceServerClient | None = None
        self._specs: dict[tuple[str, str], ModelSpec] = {}
        self._refused: set[tuple[str, str]] = set()
        self._shared = SharedInputs() if config.shared_memory else None

    async def start(self) -> None:
        """Open the channel. A Triton that is away is no error: `models` says so."""
        if self._client is None:
            self._client = client(self._config.url, self._config.key, _CHANNEL_OPTIONS)

    async def models(self) -> list[ModelSpec]:
        """See `Backend.models`: the READY versions of the repository index.

        A Triton may be shared: models whose configuration is not one of ours are logged once and left out.
        """
        client = self._open()
        with _errors(self):
            index = await client.get_model_repository_index(client_timeout=self._config.timeout_s)
        ready = [(entry.name, entry.version) for entry in index.models if entry.state == "READY"]
        found = await asyncio.gather(*(self._listed(name, version) for name, version in ready))
        return sorted((spec for spec in found if spec is not None), key=served_order)

    async def _listed(self, name: str, version: str) -> ModelSpec | None:
        try:
            return await self._fetch_spec(name, version)
        except BackendFailed:
            return None  # unloaded since the index was read
        except ModelConfigError as error:
            if (name, version) not in self._refused:
                self._refused.add((name, version))
                logger.warning("Triton's model %r version %s is not served: %s", name, version, error)
            return None

    async def _fetch_spec(self, name: str, version: str) -> ModelSpec:
        with _errors(self):
            answer = await self._open().get_model_config(name, version, client_timeout=self._config.timeout_s)
        spec = spec_from_config(answer.config, version)
        self._specs[(name, version)] = spec
        return spec

    async def _known_spec(self, name: str, version: str) -> ModelSpec:
        try:
            return self._specs.get((name, version)) or await self._fetch_spec(name, version)
        except ModelConfigError as error:
            raise BackendFailed(str(error)) from error

    async def infer(self, model: str, version: str, clips: Clips, *, timeout_s: float | None = None) -> Scores:
        """See `Backend.infer`. Triton checks the shape and number of the clips, and forgets a call whose time is up."""
        if clips.dtype != np.uint8:
            raise BackendFailed(f"Model {model!r} takes uint8 clips, not {clips.dtype}.")
        spec = await self._known_spec(model, version)
        try:
            result = await self._call(spec, clips, timeout_s)
        except BackendFailed as error:
            if self._shared is not None and UNKNOWN_REGION in error.detail:
                self._shared.forget_all()
                result = await self._call(spec, clips, timeout_s)
            # A stopping server fails requests, and forgets its models, before it closes its port.
            elif await self._server_ready():
                raise
            else:
                raise BackendUnavailable(f"Triton is not ready: {sentence(error.detail)}") from error
        # By name: a server may send outputs in any order.
        return checked_scores(spec, {name: result.as_numpy(name) for name in spec.outputs}, len(clips))

    async def _call(self, spec: ModelSpec, clips: Clips, timeout_s: float | None) -> InferResult:
        client = self._open()
        limit_s = min(self._config.timeout_s, timeout_s or self._config.timeout_s)
        tensor = InferInput(INPUT, list(clips.shape), "UINT8")
        slot: Slot | None = None
        with _errors(self):
            if self._shared is not None:
                slot = await self._shared.take(client, clips, spec.max_batch_size * spec.clip_bytes, limit_s)
            try:
                if slot is None:
                    tensor.set_data_from_numpy(clips)
                else:
                    tensor.set_shared_memory(slot.name, clips.nbytes)
                return await client.infer(
                    spec.name,
                    [tensor],
                    model_version=spec.version,
                    outputs=[InferRequestedOutput(name) for name in spec.outputs],
                    headers=self._config.headers(),
                    client_timeout=limit_s,
                )
            finally:
                if slot is not None and self._shared is not None:
                    self._shared.give_back(slot)

    async def _server_ready(self) -> bool:
        try:
            return bool(await self._open().is_server_ready(client_timeout=self._config.timeout_s))
        except (InferenceServerException, BackendUnavailable, grpc.aio.UsageError):
            return False

    async def close(self) -> None:
        """See `Backend.close`; calls in flight end with BackendUnavailable."""
        client, self._client = self._client, None
        if client is not None:
            if self._shared is not None:
                await self._shared.close(client, _UNREGISTER_TIMEOUT_S)
            await client.close()

    @property
    def closed(self) -> bool:
        """Whether there is no channel: before `start` and after `close`."""
        return self._client is None

    def _open(self) -> InferenceServerClient:
        if self._client is None:
            raise BackendUnavailable("The connection to Triton is not open.")
        return self._client


@contextmanager
def _errors(backend: TritonBackend) -> Iterator[None]:
    """Turn what the client raises into BackendUnavailable and BackendFailed."""
    try:
        yield
    except InferenceServerException as error:
        raise translate(error) from error
    except grpc.aio.UsageError as error:
        raise BackendUnavailable("The connection to Triton was closed.") from error
    except asyncio.CancelledError as error:
        # gRPC reports calls that `close` cut off as if their task had been cancelled, which it was not.
        task = asyncio.current_task()
        if backend.closed and task is not None and not task.cancelling():
            raise BackendUnavailable("The connection to Triton was closed.") from error
        raise


def translate(error: InferenceServerException) -> VidtrError:
    """BackendUnavailable or BackendFailed for what a call to Triton raised.

    UNAVAILABLE (which is also a full queue), CANCELLED and DEADLINE_EXCEEDED are transient; everything else is not.
    """
    status = str(error.status() or "").removeprefix("StatusCode.")
    message = str(error.message())
    detail = f"Triton answered {status or 'without a status'}: {sentence(summarize_error(message))}"
    # A stopping server unloads its models before it closes its port, and then no longer knows them.
    stopping = status == "NOT_FOUND" and "has no available versions" in message
    # The process that runs a model for Triton's Python backend has died or stood still; a local server is started anew.
    restarting = status == "INTERNAL" and "Stub process" in message and "is not healthy" in message
    return BackendUnavailable(detail) if stopping or restarting or status in _TRANSIENT else BackendFailed(detail)
