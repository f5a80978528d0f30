"""The manifests of deploy/k8s, by kind and name."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import yaml

from tests.compose.tools import ROOT

K8S = ROOT / "deploy" / "k8s"
FILES = sorted(
    path for path in [*K8S.glob("base/*.yaml"), *K8S.glob("components/*/*.yaml")] if path.name != "kustomization.yaml"
)


@functools.cache
def documents(path: Path) -> list[dict[str, Any]]:
    return [item for item in yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader) if item]


@functools.cache
def manifests(kind: str) -> dict[str, dict[str, Any]]:
    """Those of base and components together."""
    found = [item for path in FILES for item in documents(path) if item["kind"] == kind]
    return {item["metadata"]["name"]: item for item in found}


def pod(name: str) -> dict[str, Any]:
    spec: dict[str, Any] = manifests("Deployment")[name]["spec"]["template"]["spec"]
    return spec


def environment(spec: dict[str, Any]) -> dict[str, str]:
    """What a container gets by value, of its first container; what the cluster fills in is shown as `(field)`."""
    entries = spec["containers"][0]["env"]
    return {
        entry["name"]: entry["value"] if "value" in entry else f"({entry['valueFrom']['resourceFieldRef']['resource']})"
        for entry in entries
    }
