"""Loading and unloading models of running Triton servers that are in explicit control mode."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.grpc.model_config_pb2 import ModelInstanceGroup
from tritonclient.utils import InferenceServerException

from service.errors import BackendFailed
from service.inference.triton_access import client
from service.inference.triton_backend import translate


@dataclass(frozen=True, slots=True)
class VersionState:
    """How one version of a model stands in one server; `reason` is empty unless it is not READY."""

    model: str
    version: str
    state: str
    reason: str


class ModelControl:
    """One server. Methods raise BackendUnavailable when it does not answer and BackendFailed when it refuses."""

    def __init__(self, url: str, timeout_s: float, key: str | None = None) -> None:
        """`timeout_s` bounds one call; a load returns only when the model is warm."""
        self.url = url
        self._timeout_s = timeout_s
        self._key = key

    async def states(self) -> list[VersionState]:
        """Every version of every model that the server knows."""
        async with self._client() as server:
            index = await server.get_model_repository_index(client_timeout=self._timeout_s)
        return [VersionState(m.name, m.version, m.state, m.reason) for m in index.models]

    async def ready_versions(self, model: str) -> list[str]:
        """Versions of `model` that answer, oldest first."""
        ready = [s.version for s in await self.states() if s.model == model and s.state == "READY"]
        return sorted(ready, key=int)

    async def runs_on_gpu(self, model: str) -> bool:
        """Whether every instance of a ready model is on a GPU: KIND_AUTO was settled when it was loaded."""
        async with self._client() as server:
            answer = await server.get_model_config(model, client_timeout=self._timeout_s)
        groups = answer.config.instance_group
        return bool(groups) and all(group.kind == ModelInstanceGroup.KIND_GPU for group in groups)

    async def load(self, model: str) -> list[str]:
        """Load the model, or read its folder again where it is loaded; returns the versions that answer then.

        The versions that answered before go on answering until the new ones are ready, and for ever if they never are.
        """
        async with self._client() as server:
            await server.load_model(model, client_timeout=self._timeout_s)
        return await self.ready_versions(model)

    async def reload(self, model: str) -> list[str]:
        """`load` for a model that is loaded. Raises BackendFailed for one that is not."""
        if not await self.ready_versions(model):
            raise BackendFailed(f"Model {model!r} is not loaded in {self.url}.")
        return await self.load(model)

    async def unload(self, model: str) -> list[str]:
        """Unload all versions of the model, once the requests in flight are answered; returns what still answers."""
        async with self._client() as server:
            await server.unload_model(model, client_timeout=self._timeout_s)
        return await self.ready_versions(model)

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[InferenceServerClient]:
        async with client(self.url, self._key) as opened:
            try:
                yield opened
            except InferenceServerException as error:
                raise translate(error) from error
