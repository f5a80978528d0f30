"""The Kubernetes manifests: against the schemas, and what they promise to those who apply them."""

import copy
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from prometheus_client import REGISTRY
from pydantic import ValidationError

from service.contracts import JobClass
from service.settings import Settings
from tests.compose.custom_resources import KINDS, check
from tests.compose.manifests import FILES, documents, environment, manifests, pod
from tests.compose.tools import ROOT

# The newest of the schemas that are at hand, and the four before it.
VERSIONS = ["1.33", "1.34", "1.35", "1.36", "1.37"]
CORE = [path for path in FILES if not {item["kind"] for item in documents(path)} & KINDS]
CUSTOM = [item for path in FILES for item in documents(path) if item["kind"] in KINDS]
PODS = sorted(manifests("Deployment"))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", CORE, ids=lambda path: path.name)
def test_a_manifest_fits_the_schema(path: Path, version: str) -> None:
    for document in documents(path):
        kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("document", CUSTOM, ids=lambda item: f"{item['kind']}-{item['metadata']['name']}")
def test_a_custom_resource_has_the_published_fields_only(document: dict[str, Any]) -> None:
    check(document)


@pytest.mark.parametrize(
    "change", [{"threshold": 32}, {"treshold": "32"}, {"serverAddress": "prometheus:9090"}], ids=lambda c: next(iter(c))
)
def test_a_trigger_that_keda_would_refuse_is_found(change: dict[str, Any]) -> None:
    wrong = copy.deepcopy(manifests("ScaledObject")["vidtr-api"])
    wrong["spec"]["triggers"][0]["metadata"] |= change
    with pytest.raises(ValidationError):
        check(wrong)


@pytest.mark.parametrize("kind", ["ScaledObject", "ServiceMonitor", "PrometheusRule"])
def test_a_misspelt_field_of_a_custom_resource_is_found(kind: str) -> None:
    wrong = copy.deepcopy(next(iter(manifests(kind).values())))
    wrong["spec"]["intervall"] = "15s"
    with pytest.raises(AssertionError):
        check(wrong)


def test_what_a_custom_resource_refers_to_is_there() -> None:
    for scaled in manifests("ScaledObject").values():
        assert scaled["spec"]["scaleTargetRef"]["name"] in manifests("Deployment")
    (monitor,) = manifests("ServiceMonitor").values()
    labels = monitor["spec"]["selector"]["matchLabels"].items()
    matched = [s for s in manifests("Service").values() if labels <= s["metadata"]["labels"].items()]
    ports = {port["name"] for service in matched for port in service["spec"]["ports"]}
    assert len(matched) == len(PODS)
    assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} <= ports
    (route,) = manifests("HTTPRoute").values()
    (ingress,) = manifests("Ingress").values()
    [behind] = route["spec"]["rules"][0]["backendRefs"]
    entry = ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    [port] = manifests("Service")[behind["name"]]["spec"]["ports"]
    assert (entry["name"], entry["port"]["name"], behind["port"]) == (behind["name"], port["name"], port["port"])


@pytest.mark.parametrize("name", PODS)
def test_a_pod_fits_the_restricted_profile(name: str) -> None:
    spec = pod(name)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


@pytest.mark.parametrize("name", PODS)
def test_a_pod_is_probed_bounded_and_spread(name: str) -> None:
    (container,) = pod(name)["containers"]
    assert {"startupProbe", "livenessProbe"} <= set(container)
    assert container["resources"]["limits"]["memory"]
    spread = pod(name)["topologySpreadConstraints"]
    assert [each["topologyKey"] for each in spread] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    selector = manifests("Deployment")[name]["spec"]["selector"]
    assert [each["labelSelector"] for each in spread] == [selector, selector]


def test_a_budget_protects_every_role_of_several_replicas_and_no_other() -> None:
    several = {name for name, item in manifests("Deployment").items() if item["spec"]["replicas"] > 1}
    assert set(manifests("PodDisruptionBudget")) == several == {"vidtr-api", "vidtr-worker"}


def test_triton_rolls_out_on_the_gpus_that_there_are() -> None:
    assert manifests("Deployment")["vidtr-triton"]["spec"]["strategy"] == {
        "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}
    }
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod("vidtr-triton")["tolerations"]


def of_gpu(service: str) -> dict[str, str]:
    """The environment that compose.gpu.yml adds to a service, with the defaults of its variables."""
    found = yaml.safe_load((ROOT / "compose.gpu.yml").read_text())["services"][service]["environment"]
    return {name: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value) for name, value in found.items()}


def test_queue_and_workers_have_the_sizes_that_compose_gives_a_gpu() -> None:
    given = {**of_gpu("api"), **of_gpu("worker")}
    # Worker and Triton are pods of their own here, and share no memory.
    del given["VIDTR_TRITON_SHARED_MEMORY"]
    assert given.items() <= manifests("ConfigMap")["vidtr"]["data"].items()


def test_triton_runs_the_image_and_the_flags_of_compose() -> None:
    triton = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["triton"]
    on_gpu = of_gpu("triton")
    (container,) = pod("vidtr-triton")["containers"]
    assert container["args"] == triton["command"]
    assert container["image"] in triton["image"]
    assert {entry["name"]: entry["value"] for entry in container["env"]} == {**triton["environment"], **on_gpu}
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_the_models_of_a_triton_are_there_before_it_starts() -> None:
    spec = pod("vidtr-triton")
    (fills,) = spec["initContainers"]
    (container,) = spec["containers"]
    read = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert [mount["name"] for mount in fills["volumeMounts"]] == [read["/models"]["name"]]
    target = fills["image"].partition("vidtr-serve-")[2].partition(":")[0]
    assert f" AS {target}\n" in (ROOT / "docker" / "Dockerfile").read_text()


def test_triton_is_found_under_a_headless_name_that_the_workers_use() -> None:
    assert manifests("Service")["vidtr-triton"]["spec"]["clusterIP"] == "None"
    assert environment(pod("vidtr-worker"))["VIDTR_TRITON_URL"] == "vidtr-triton:8001"


def test_a_stopping_api_has_time_for_the_longest_upload() -> None:
    settings = Settings(_env_file=None)
    grace_s = float(environment(pod("vidtr-api"))["VIDTR_SHUTDOWN_GRACE_S"])
    (container,) = pod("vidtr-api")["containers"]
    endpoints_s = float(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert grace_s > settings.upload_timeout_s + settings.decode_timeout_s
    assert pod("vidtr-api")["terminationGracePeriodSeconds"] > grace_s + endpoints_s
    assert pod("vidtr-worker")["terminationGracePeriodSeconds"] > settings.shutdown_grace_s


def test_readiness_asks_for_nothing_that_all_pods_share() -> None:
    path = pod("vidtr-api")["containers"][0]["readinessProbe"]["httpGet"]["path"]
    assert set(re.findall(r"check=(\w+)", path)) == {"process", "sandbox"}


def test_an_api_decodes_on_the_cores_that_it_was_given() -> None:
    (container,) = pod("vidtr-api")["containers"]
    assert environment(pod("vidtr-api"))["VIDTR_DECODE_WORKERS"] == "(requests.cpu)"
    assert "cpu" in container["resources"]["requests"]


def test_the_spool_holds_as_many_uploads_as_are_taken_and_lies_on_a_disk() -> None:
    settings = Settings(_env_file=None)
    (spool,) = (volume for volume in pod("vidtr-api")["volumes"] if volume["name"] == "spool")
    assert "medium" not in spool["emptyDir"]
    size = int(spool["emptyDir"]["sizeLimit"].removesuffix("Mi")) * 1024**2
    uploads = settings.max_concurrent_uploads * settings.max_upload_bytes
    assert size >= uploads + settings.resumable_spool_bytes + settings.spool_min_free_bytes


def test_a_proxy_in_front_lets_the_largest_and_longest_request_pass() -> None:
    settings = Settings(_env_file=None)
    (ingress,) = manifests("Ingress").values()
    said = {name.rpartition("/")[2]: value for name, value in ingress["metadata"]["annotations"].items()}
    longest_s = settings.upload_timeout_s + settings.job_deadline_s
    assert int(said["proxy-body-size"].removesuffix("m")) * 1024**2 > settings.max_upload_bytes
    assert int(said["proxy-read-timeout"]) > longest_s
    assert int(said["proxy-send-timeout"]) > longest_s
    assert (said["proxy-request-buffering"], said["proxy-buffering"]) == ("off", "off")
    (route,) = manifests("HTTPRoute").values()
    assert int(route["spec"]["rules"][0]["timeouts"]["request"].removesuffix("s")) > longest_s


# --- who reaches whom, and who knows what --------------------------------------------------------------------------


def egress(component: str) -> list[dict[str, Any]]:
    """The rules of all policies that select the pods of this component."""
    found = []
    for policy in manifests("NetworkPolicy").values():
        selector = policy["spec"]["podSelector"]
        named = selector["matchLabels"].get("app.kubernetes.io/component")
        among = [e["values"] for e in selector.get("matchExpressions", [])]
        if named == component or (named is None and all(component in values for values in among)):
            found += policy["spec"].get("egress", [])
    return found


def ports(rules: list[dict[str, Any]]) -> set[int]:
    return {port["port"] for rule in rules for port in rule["ports"]}


def test_everything_is_denied_that_is_not_allowed() -> None:
    denied = manifests("NetworkPolicy")["vidtr-default-deny"]["spec"]
    assert denied["policyTypes"] == ["Ingress", "Egress"]
    assert not {"ingress", "egress"} & set(denied)
    for name in PODS:
        labels = manifests("Deployment")[name]["spec"]["template"]["metadata"]["labels"]
        assert denied["podSelector"]["matchLabels"].items() <= labels.items()
    assert ports(egress("api")) == {53, 5353, 6379, 443}
    assert egress("triton") == []


def test_a_worker_runs_models_and_has_no_way_to_the_internet() -> None:
    rules = egress("worker")
    assert ports(rules) == {53, 5353, 6379, 8001}
    assert [peer for rule in rules for peer in rule["to"] if "ipBlock" in peer] == [
        {"ipBlock": {"cidr": "169.254.20.10/32"}}
    ]


def secrets_of(name: str) -> set[tuple[str, str]]:
    """Secret and key of every file that a pod mounts."""
    found = set()
    for volume in pod(name)["volumes"]:
        sources = [source["secret"] for source in volume.get("projected", {}).get("sources", [])]
        sources += [{**volume["secret"], "name": volume["secret"]["secretName"]}] if "secret" in volume else []
        found |= {(source["name"], item["key"]) for source in sources for item in source["items"]}
    return found


def test_a_pod_has_no_secret_that_it_does_not_need() -> None:
    redis, key = ("vidtr-redis", "vidtr_redis_url"), ("vidtr-triton", "vidtr_triton_key")
    assert secrets_of("vidtr-worker") == {redis, key}
    assert secrets_of("vidtr-triton") == {key}
    files = ("api_keys.toml", "s3_credentials", "gs_credentials.json", "stream_credentials.toml")
    own = ("vidtr_webhook_secret", *files, "signing_public_keys.pem")
    assert secrets_of("vidtr-api") == {redis, *(("vidtr-api", name) for name in own)}


def test_api_keys_are_a_file_that_is_read_again() -> None:
    spec = pod("vidtr-api")
    path = Path(environment(spec)["VIDTR_API_KEYS_FILE"])
    (mount,) = (each for each in spec["containers"][0]["volumeMounts"] if each["mountPath"] == str(path.parent))
    # Kubernetes never renews what is mounted by a path inside the volume.
    assert "subPath" not in mount
    (volume,) = (each for each in spec["volumes"] if each["name"] == mount["name"])
    assert [item["path"] for item in volume["secret"]["items"]] == [path.name]


# --- scaling -------------------------------------------------------------------------------------------------------


def asked(name: str) -> list[str]:
    """The queries of a role's triggers."""
    return [each["metadata"]["query"] for each in manifests("ScaledObject")[name]["spec"]["triggers"]]


def test_every_role_scales_on_metrics_that_there_are() -> None:
    families = {family.name for family in REGISTRY.collect()}
    dashboards = "".join(path.read_text() for path in (ROOT / "docker" / "grafana" / "dashboards").glob("*.json"))
    for name in PODS:
        used = re.findall(r"\b(?:vidtr|nv)_\w+", " ".join(asked(name)))
        assert used
        assert [each for each in used if each not in families and f"{each}" not in dashboards] == []


def test_workers_scale_on_what_waits_in_both_classes() -> None:
    found = [re.findall(r'vidtr_queue_clips\{[^}]*class="(\w+)"', query) for query in asked("vidtr-worker")]
    assert sorted(found) == sorted([each.value] for each in JobClass)


def test_an_api_grows_before_uploads_wait_for_a_decode_process() -> None:
    [trigger] = manifests("ScaledObject")["vidtr-api"]["spec"]["triggers"]
    cores = float(pod("vidtr-api")["containers"][0]["resources"]["requests"]["cpu"])
    assert "vidtr_decodes_in_progress" in trigger["metadata"]["query"]
    assert float(trigger["metadata"]["threshold"]) < cores
