"""Writes the Kustomize files from the Helm chart: `make manifests`. The chart is the one source of both.

deploy/helm/vidtr/files               what the chart reads of the program: alerts, dashboards, defaults of settings
deploy/helm/vidtr/values.schema.json  which settings may be given, so that a misspelt one is refused
deploy/k8s/base                       rendered with the chart's defaults
deploy/k8s/components/*               rendered with one more part of the chart switched on

The renderer is Helm's own library, from the package `helm-python-sdk`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from service.settings import SECRET, Settings

ROOT = Path(__file__).parents[1]
CHART = ROOT / "deploy" / "helm" / "vidtr"
K8S = ROOT / "deploy" / "k8s"
DASHBOARDS = ROOT / "docker" / "grafana" / "dashboards"
NAMESPACE = "vidtr"
HEADER = "# Rendered from deploy/helm/vidtr by `make manifests`.\n"
# What the templates derive sizes and times from.
DERIVED = (
    "decode_timeout_s",
    "job_deadline_s",
    "max_concurrent_uploads",
    "max_upload_bytes",
    "resumable_spool_bytes",
    "shutdown_grace_s",
    "upload_timeout_s",
)
# The chart gives these to containers itself, from other values.
OWNED = (
    "api_keys_file",
    "api_metrics_port",
    "decode_workers",
    "engine",
    "host",
    "metrics_host",
    "model_repository",
    "port",
    "prometheus_multiproc_dir",
    "redis_password_file",
    "signing_key_file",
    "spool_dir",
    "state_dir",
    "triton_dir",
    "worker_metrics_port",
)
# A static checksum in a file that people patch would say nothing.
BASE: dict[str, Any] = {"rolloutOnChange": False}
BASE_TEMPLATES = ("config", "api", "worker", "triton", "network")
COMPONENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "autoscaling": ("scaling", {"autoscaling": {"enabled": True}}),
    "gateway": ("gateway", {"gateway": {"enabled": True}}),
    "ingress": ("ingress", {"ingress": {"enabled": True}}),
    "monitoring": ("monitoring", {"monitoring": {"enabled": True}}),
}


def chart_files() -> dict[Path, str]:
    """What the chart takes over from the program, by path."""
    defaults = "".join(f"{name}: {int(Settings.model_fields[name].default)}\n" for name in DERIVED)
    return {
        CHART / "files" / "rules.yml": (ROOT / "docker" / "prometheus" / "rules.yml").read_text(),
        **{
            CHART / "files" / "dashboards" / board.name: board.read_text()
            for board in sorted(DASHBOARDS.glob("*.json"))
        },
        CHART / "files" / "defaults.yaml": "# Defaults of the program, by `make manifests`.\n" + defaults,
        CHART / "values.schema.json": json.dumps(schema(), indent=2) + "\n",
    }


def schema() -> dict[str, Any]:
    """Of values.yaml: its top-level names, and the names of settings."""
    # An endpoint with a password in it belongs into a Secret as well; one without may stand here.
    kept = {*SECRET, *OWNED} - {"otlp_endpoint"}
    settings = [name for name in Settings.model_fields if name not in kept]
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "definitions": {"scalar": {"type": ["string", "number", "boolean"]}},
        "type": "object",
        "properties": {
            "settings": {
                "type": "object",
                "properties": {name: {"$ref": "#/definitions/scalar"} for name in settings},
                "additionalProperties": False,
            },
            "triton": {"type": "object", "required": ["enabled", "image", "secret"]},
        },
    }


def rendered(values: dict[str, Any]) -> dict[str, str]:
    """The manifests of the chart under these values, by the name of their template; empty ones are left out."""
    from helm_python import Chart

    with Chart.load(CHART) as chart:
        found = chart.render(values, name="vidtr", namespace=NAMESPACE)
    named = {Path(path).stem: text for path, text in found.items() if path.endswith(".yaml")}
    return {name: text.strip() + "\n" for name, text in sorted(named.items()) if text.strip()}


def kustomize_files() -> Iterator[tuple[Path, str]]:
    """Path and text of every rendered file of deploy/k8s."""
    base = rendered(BASE)
    for template in BASE_TEMPLATES:
        yield K8S / "base" / f"{template}.yaml", HEADER + base[template]
    for component, (template, values) in COMPONENTS.items():
        text = rendered({**BASE, **values})[template]
        yield K8S / "components" / component / f"{template}.yaml", HEADER + text


def main() -> None:
    """Write all of them."""
    for path, text in chart_files().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    for path, text in kustomize_files():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        sys.stdout.write(f"{path.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
