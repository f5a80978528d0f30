"""The custom resources of the manifests against the schemas that their operators publish.

`cloudcoil-models-*` are models made from the definitions of KEDA and of the Prometheus operator. They let fields pass
that the operators would drop, so what they read has to be all that stood there. What the schemas leave open, the
metadata of a trigger, and `HTTPRoute`, which no package of Python carries, are typed here after their documentation.
"""

from __future__ import annotations

import importlib
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictStr


class Strict(BaseModel):
    """A field that is not documented is a mistake."""

    model_config = ConfigDict(extra="forbid")


class Metadata(Strict):
    name: str
    namespace: str | None = None
    labels: dict[str, StrictStr] = {}


class PrometheusTrigger(Strict):
    """Values of a trigger are strings, whatever they mean: KEDA refuses numbers."""

    serverAddress: StrictStr = Field(pattern=r"^https?://")
    query: StrictStr
    threshold: StrictStr = Field(pattern=r"^\d+(\.\d+)?$")
    activationThreshold: StrictStr | None = Field(None, pattern=r"^\d+(\.\d+)?$")
    namespace: StrictStr | None = None
    authModes: StrictStr | None = None
    ignoreNullValues: StrictStr | None = Field(None, pattern="^(true|false)$")
    unsafeSsl: StrictStr | None = Field(None, pattern="^(true|false)$")
    timeout: StrictStr | None = Field(None, pattern=r"^\d+$")


# --- Gateway API, v1 of the standard channel -----------------------------------------------------------------------

# GEP-2257: no fractions, at most four units.
Duration = Annotated[StrictStr, Field(pattern=r"^([0-9]{1,5}(h|m|s|ms)){1,4}$")]


class ParentRef(Strict):
    name: str
    namespace: str | None = None
    sectionName: str | None = None
    port: int | None = None


class PathMatch(Strict):
    type: Literal["Exact", "PathPrefix", "RegularExpression"]
    value: str = Field(pattern="^/")


class Match(Strict):
    path: PathMatch


class Timeouts(Strict):
    request: Duration
    backendRequest: Duration


class BackendRef(Strict):
    name: str
    port: int


class Rule(Strict):
    matches: list[Match] = Field(min_length=1)
    timeouts: Timeouts
    backendRefs: list[BackendRef] = Field(min_length=1)


class HTTPRouteSpec(Strict):
    parentRefs: list[ParentRef] = Field(min_length=1)
    hostnames: list[str]
    rules: list[Rule] = Field(min_length=1)


class HTTPRoute(Strict):
    apiVersion: Literal["gateway.networking.k8s.io/v1"]
    kind: Literal["HTTPRoute"]
    metadata: Metadata
    spec: HTTPRouteSpec


PUBLISHED = {
    "ScaledObject": "cloudcoil.models.keda.v1alpha1",
    "PrometheusRule": "cloudcoil.models.prometheus_operator.v1",
    "ServiceMonitor": "cloudcoil.models.prometheus_operator.v1",
}
KINDS = {*PUBLISHED, "HTTPRoute"}


def published(kind: str) -> type[BaseModel]:
    """The model of a kind. Thousands of models are built on the way, so none is before it is asked for."""
    model: type[BaseModel] = getattr(importlib.import_module(PUBLISHED[kind]), kind)
    return model


def check(document: dict[str, Any]) -> None:
    """Raises ValidationError or AssertionError for a resource of `KINDS` that its operator would refuse or skip."""
    if document["kind"] == "HTTPRoute":
        HTTPRoute.model_validate(document)
        return
    known = published(document["kind"]).model_validate(document)
    assert known.model_dump(by_alias=True, mode="json", exclude_unset=True) == document
    for trigger in document["spec"].get("triggers", ()):
        assert trigger["type"] == "prometheus"
        PrometheusTrigger.model_validate(trigger["metadata"])
