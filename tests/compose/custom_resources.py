"""The custom resources of the manifests as typed models: the fields that their operators document, and no others.

The schemas of these resources come with the operators' releases, which no package registry holds. The fields are those
of KEDA's "ScaledObject specification" and "Prometheus" pages (2.12 and later) and of `ServiceMonitor` in the API
reference of the Prometheus operator (monitoring.coreos.com/v1); of the latter those that a scrape of pods uses.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictStr


class Strict(BaseModel):
    """A field that is not documented is a mistake."""

    model_config = ConfigDict(extra="forbid")


class Metadata(Strict):
    name: str
    labels: dict[str, StrictStr] = {}


# --- KEDA ----------------------------------------------------------------------------------------------------------


class ScaleTarget(Strict):
    name: str
    apiVersion: str = "apps/v1"
    kind: str = "Deployment"


class Prometheus(Strict):
    """Values of a trigger are strings, whatever they mean: KEDA refuses numbers."""

    serverAddress: StrictStr = Field(pattern=r"^https?://")
    query: StrictStr
    threshold: StrictStr = Field(pattern=r"^\d+(\.\d+)?$")
    activationThreshold: StrictStr | None = Field(None, pattern=r"^\d+(\.\d+)?$")
    namespace: StrictStr | None = None
    ignoreNullValues: StrictStr | None = Field(None, pattern="^(true|false)$")
    unsafeSsl: StrictStr | None = Field(None, pattern="^(true|false)$")
    timeout: StrictStr | None = Field(None, pattern=r"^\d+$")


class Trigger(Strict):
    type: Literal["prometheus"]
    metadata: Prometheus


class ScaledObjectSpec(Strict):
    scaleTargetRef: ScaleTarget
    minReplicaCount: int = Field(0, ge=0)
    maxReplicaCount: int = Field(100, ge=1)
    pollingInterval: int = Field(30, ge=1)
    cooldownPeriod: int = Field(300, ge=0)
    triggers: list[Trigger] = Field(min_length=1)


class ScaledObject(Strict):
    apiVersion: Literal["keda.sh/v1alpha1"]
    kind: Literal["ScaledObject"]
    metadata: Metadata
    spec: ScaledObjectSpec


# --- Prometheus operator -------------------------------------------------------------------------------------------


class Relabeling(Strict):
    sourceLabels: list[str] = []
    regex: str = "(.*)"
    targetLabel: str | None = None
    replacement: str = "$1"
    separator: str = ";"
    action: Literal["replace", "keep", "drop", "labelmap", "labeldrop", "labelkeep"] = "replace"


class Endpoint(Strict):
    port: str
    path: str = "/metrics"
    interval: str = Field("30s", pattern=r"^\d+(ms|s|m)$")
    scrapeTimeout: str | None = Field(None, pattern=r"^\d+(ms|s|m)$")
    relabelings: list[Relabeling] = []


class Selector(Strict):
    matchLabels: dict[str, StrictStr] = Field(min_length=1)


class ServiceMonitorSpec(Strict):
    jobLabel: str | None = None
    selector: Selector
    endpoints: list[Endpoint] = Field(min_length=1)


class ServiceMonitor(Strict):
    apiVersion: Literal["monitoring.coreos.com/v1"]
    kind: Literal["ServiceMonitor"]
    metadata: Metadata
    spec: ServiceMonitorSpec


KINDS: dict[str, type[Strict]] = {kind.__name__: kind for kind in (ScaledObject, ServiceMonitor)}


def check(document: dict[str, Any]) -> None:
    """Raises KeyError for a kind that is not known here, ValidationError for one that its operator would refuse."""
    KINDS[document["kind"]].model_validate(document)
