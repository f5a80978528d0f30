"""The models that a worker serves, by the ways in which it looks for them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from service.contracts import JobModel, ModelSpec
from service.queue.clip_routes import routes

Weights = tuple[str, str, str]
"""name and version of a model, and the SHA-256 of its weights"""


@dataclass(frozen=True)
class ServedModels:
    """The models of the backend, as the worker last saw them."""

    specs: tuple[ModelSpec, ...] = ()

    @cached_property
    def max_batch_by_route(self) -> dict[str, int]:
        """The routes to read, with the most clips of one batch."""
        return {route: spec.max_batch_size for route, spec in sorted(routes(self.specs).items())}

    @cached_property
    def max_batch_by_version(self) -> dict[tuple[str, str], int]:
        """The most clips of one batch, by name and version."""
        return {(spec.name, spec.version): spec.max_batch_size for spec in self.specs}

    @cached_property
    def by_weights(self) -> dict[Weights, ModelSpec]:
        """Each model by its name, its version and the SHA-256 of its weights."""
        return {(spec.name, spec.version, spec.weights_sha256): spec for spec in self.specs}

    def of(self, model: JobModel) -> ModelSpec:
        """The model that a job asks for. Raises KeyError where these weights are not among those served."""
        return self.by_weights[model.name, model.version, model.weights_sha256]

    def named(self, name: str) -> list[ModelSpec]:
        """The versions of one model."""
        return [spec for spec in self.specs if spec.name == name]
