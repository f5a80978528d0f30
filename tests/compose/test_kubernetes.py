"""The Kubernetes manifests against the schemas, and the settings of both deployments against the documentation."""

import copy
import functools
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from service.contracts import JobClass
from service.settings import Settings
from service.telemetry import metrics
from tests.compose.custom_resources import check
from tests.compose.tools import ROOT, tool

K8S = ROOT / "deploy" / "k8s"
FILES = sorted(path for path in K8S.glob("*.yaml") if path.name != "kustomization.yaml")
# Custom resources, whose schemas their operators bring.
CUSTOM = ("scaling.yaml", "monitoring.yaml")
DEPLOYMENT = ROOT / "docs" / "deployment.md"
TABLE = ROOT / "docs" / "deployment-settings.md"


@functools.cache
def manifests(kind: str) -> dict[str, dict[str, Any]]:
    found = [item for path in FILES for item in yaml.safe_load_all(path.read_text()) if item["kind"] == kind]
    return {item["metadata"]["name"]: item for item in found}


@functools.cache
def compose_services() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"])


def pod(name: str) -> dict[str, Any]:
    return manifests("Deployment")[name]["spec"]["template"]["spec"]


PODS = sorted(manifests("Deployment"))


@pytest.mark.parametrize("path", [path for path in FILES if path.name not in CUSTOM], ids=lambda path: path.name)
def test_a_manifest_fits_the_schema(path: Path) -> None:
    done = subprocess.run(
        [tool("kubernetes-validate"), "--strict", str(path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


CUSTOM_DOCUMENTS = [item for name in CUSTOM for item in yaml.safe_load_all((K8S / name).read_text())]


@pytest.mark.parametrize("document", CUSTOM_DOCUMENTS, ids=lambda item: item["kind"])
def test_a_custom_resource_has_the_documented_fields_only(document: dict[str, Any]) -> None:
    check(document)


def test_a_custom_resource_with_a_number_for_a_string_or_a_misspelt_field_is_refused() -> None:
    (scaled,) = (item for item in CUSTOM_DOCUMENTS if item["kind"] == "ScaledObject")
    for change in ({"threshold": 32}, {"treshold": "32"}, {"serverAddress": "prometheus:9090"}):
        wrong = copy.deepcopy(scaled)
        wrong["spec"]["triggers"][0]["metadata"] |= change
        with pytest.raises(ValidationError):
            check(wrong)


def test_what_a_custom_resource_refers_to_is_there() -> None:
    kinds = {item["kind"]: item for item in CUSTOM_DOCUMENTS}
    scaled, monitor = kinds["ScaledObject"]["spec"], kinds["ServiceMonitor"]["spec"]
    assert scaled["scaleTargetRef"]["name"] in manifests("Deployment")
    labels = monitor["selector"]["matchLabels"].items()
    matched = [s for s in manifests("Service").values() if labels <= s["metadata"]["labels"].items()]
    ports = {port["name"] for service in matched for port in service["spec"]["ports"]}
    assert len(matched) == len(PODS)
    assert {endpoint["port"] for endpoint in monitor["endpoints"]} <= ports


def test_the_kustomization_names_every_file() -> None:
    listed = yaml.safe_load((K8S / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == [path.name for path in FILES]


@pytest.mark.parametrize("name", PODS)
def test_a_pod_fits_the_restricted_profile(name: str) -> None:
    spec = pod(name)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    for container in spec["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


@pytest.mark.parametrize("name", PODS)
def test_a_pod_is_probed_bounded_and_kept_during_maintenance(name: str) -> None:
    (container,) = pod(name)["containers"]
    assert {"startupProbe", "livenessProbe"} <= set(container)
    assert container["resources"]["limits"]["memory"]
    assert name in manifests("PodDisruptionBudget")


def test_triton_runs_the_image_and_the_flags_of_compose() -> None:
    triton = compose_services()["triton"]
    (container,) = pod("vidtr-triton")["containers"]
    assert container["args"] == triton["command"]
    assert container["image"] in triton["image"]
    assert {entry["name"]: entry["value"] for entry in container["env"]} == triton["environment"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_triton_is_found_under_a_headless_name_that_the_workers_use() -> None:
    assert manifests("Service")["vidtr-triton"]["spec"]["clusterIP"] == "None"
    assert environment(pod("vidtr-worker"))["VIDTR_TRITON_URL"] == "vidtr-triton:8001"


def test_everything_is_denied_that_is_not_allowed() -> None:
    policies = manifests("NetworkPolicy")
    assert policies["default-deny"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert "egress" not in policies["triton"]["spec"]
    reached = {port["port"] for rule in policies["api"]["spec"]["egress"] for port in rule["ports"]}
    assert reached == {6379, 443}


def test_a_worker_runs_models_and_has_no_way_to_the_internet() -> None:
    rules = manifests("NetworkPolicy")["worker"]["spec"]["egress"]
    assert {port["port"] for rule in rules for port in rule["ports"]} == {6379, 8001}
    assert not any("ipBlock" in peer for rule in rules for peer in rule["to"])


def secrets_of(name: str) -> set[str]:
    """Names of the files in /run/secrets, or of a Secret where all of it is there."""
    (volume,) = (volume for volume in pod(name)["volumes"] if volume["name"] == "secrets")
    sources = [source["secret"] for source in volume["projected"]["sources"]]
    return {item["path"] for s in sources for item in s.get("items", [{"path": s["name"]}])}


def test_a_pod_has_no_secret_that_it_does_not_need() -> None:
    assert secrets_of("vidtr-worker") == {"vidtr_redis_url", "vidtr-triton"}
    assert secrets_of("vidtr-api") == {"vidtr_redis_url", "vidtr_api_keys", "vidtr_webhook_secret"}


def test_workers_scale_on_what_waits_in_both_classes() -> None:
    (scaled,) = manifests("ScaledObject").values()
    asked = [re.fullmatch(r"max\((\w+)\{(.*)\}\)", t["metadata"]["query"]) for t in scaled["spec"]["triggers"]]
    (gauge,) = {found[1] for found in asked if found}
    assert gauge in {metric.name for metric in metrics.QUEUE_CLIPS.collect()}
    labels = [dict(re.findall(r'(\w+)="(\w+)"', found[2])) for found in asked if found]
    assert [each["class"] for each in labels] == list(JobClass)
    assert {tuple(each) for each in labels} == {("model", "class")}


# --- settings ------------------------------------------------------------------------------------------------------


def environment(spec: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in spec["containers"][0]["env"]}


def row(name: str) -> str:
    """The line of the table that says where a setting is given."""
    variable = "PROMETHEUS_MULTIPROC_DIR" if name == "prometheus_multiproc_dir" else f"VIDTR_{name.upper()}"
    services = compose_services()
    compose = {role: services[role]["environment"].get(variable) for role in ("api", "worker")}
    kubernetes = {role: environment(pod(f"vidtr-{role}")).get(variable) for role in ("api", "worker")}

    def cell(fixed: dict[str, str | None], otherwise: str) -> str:
        return ", ".join(f"{role}: `{value}`" for role, value in fixed.items() if value) or otherwise

    if name == "triton_key":
        return f"| [`{name}`](settings.md#{name}) | file in the volume `secrets-worker` | Secret `vidtr-triton` |"
    if name == "redis_url":
        return f"| [`{name}`](settings.md#{name}) | file in the volume `secrets-client` | Secret `vidtr-redis` |"
    in_secret = f"Secret `vidtr-redis`: file `vidtr_{name}`"
    if name == "webhook_secret":
        return f"| [`{name}`](settings.md#{name}) | file `vidtr_{name}` in the volume `secrets-client` | {in_secret} |"
    if name == "api_keys":
        return f"| [`{name}`](settings.md#{name}) | `.env`: `{variable}` | {in_secret} |"
    return (
        f"| [`{name}`](settings.md#{name}) | {cell(compose, f'`.env`: `{variable}`')}"
        f" | {cell(kubernetes, f'ConfigMap `vidtr`: `{variable}`')} |"
    )


def test_the_table_maps_every_setting_to_compose_and_kubernetes() -> None:
    table = re.findall(r"^\| \[`\w+`\]\(settings\.md#.*$", TABLE.read_text(), re.M)
    assert table == [row(name) for name in Settings.model_fields], "run: python -m tests.compose.test_kubernetes"


def test_the_table_of_services_holds_every_service_of_compose() -> None:
    chapter = DEPLOYMENT.read_text().partition("| service | what it is | reached by |\n|---|---|---|\n")[2]
    rows = re.findall(r"^\| `(\w+)` \|", chapter.partition("\n\n")[0], re.M)
    assert rows == list(compose_services())


if __name__ == "__main__":
    text = TABLE.read_text()
    head = "| setting | Docker Compose | Kubernetes |\n|---|---|---|\n"
    before, _, after = text.partition(head)
    lines = "".join(row(name) + "\n" for name in Settings.model_fields)
    TABLE.write_text(before + head + lines + re.sub(r"\A(\|.*\n)*", "", after))
