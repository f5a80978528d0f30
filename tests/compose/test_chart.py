"""The Helm chart: it is what the Kustomize files are rendered from, and refuses values that mean nothing."""

import json
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from deploy import render
from service.settings import SECRET, Settings
from tests.compose.custom_resources import KINDS, check
from tests.compose.tools import ROOT, tool

helm = pytest.importorskip("helm_python", reason="the library of Helm is not installed")

CHART = render.CHART
EXAMPLE = CHART / "examples" / "managed-redis.yaml"
EVERYTHING = {part: {"enabled": True} for part in ("autoscaling", "gateway", "ingress", "monitoring")}
S3 = {"models": {"s3": {"url": "s3://models.example.com:443/vidtr", "secret": "models"}}}
CLAIM = {"models": {"claim": "repository", "image": ""}}
OUTSIDE = {
    "settings": {
        "max_upload_bytes": 2 * 1024**3,
        "upload_timeout_s": 1800,
        "otlp_endpoint": "http://otel.tracing:4318",
    },
    "redis": {"caSecret": "redis-ca", "passwordSecret": "redis-password"},
    "api": {"spool": {"storageClass": "fast"}, "keys": False},
    "networkPolicy": {"tracing": {"peers": [{"ipBlock": {"cidr": "10.1.2.3/32"}}]}},
    "triton": {"replicas": 2, "surge": True, "gpu": {"resource": "nvidia.com/mig-1g.10gb"}},
}
VALUES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "everything": EVERYTHING,
    "s3": S3,
    "claim": CLAIM,
    "outside": OUTSIDE,
}


def objects(values: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """What the chart makes of these values, by kind and name."""
    return by_name("---\n".join(render.rendered(values).values()))


def by_name(text: str) -> dict[tuple[str, str], dict[str, Any]]:
    found = [item for item in yaml.load_all(text, Loader=yaml.CSafeLoader) if item]
    for item in found:
        item["metadata"].pop("namespace", None)
        annotations = item.get("spec", {}).get("template", {}).get("metadata", {})
        annotations.pop("annotations", None)
    return {(item["kind"], item["metadata"]["name"]): item for item in found}


def built(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """What Kustomize makes of a folder; the namespace, which Helm does not make, is left out."""
    done = subprocess.run([tool("kubectl"), "kustomize", str(folder)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return {key: item for key, item in by_name(done.stdout).items() if key[0] != "Namespace"}


def test_the_kustomize_files_are_what_the_chart_renders() -> None:
    expected = {path: text for path, text in [*render.chart_files().items(), *render.kustomize_files()]}
    stale = [str(path.relative_to(ROOT)) for path, text in expected.items() if path.read_text() != text]
    assert stale == [], "run: make manifests"


def test_kustomize_and_helm_make_the_same_objects() -> None:
    switched = {"autoscaling": {"enabled": True}, "monitoring": {"enabled": True}}
    assert built(render.K8S) == objects(switched)


def test_the_overlay_of_kustomize_and_the_example_of_helm_make_the_same_objects() -> None:
    assert built(render.K8S / "overlays" / "managed-redis") == objects(yaml.safe_load(EXAMPLE.read_text()))


@pytest.mark.parametrize("name", VALUES)
def test_helm_finds_no_fault_with_the_chart(name: str) -> None:
    report = helm.lint(str(CHART), VALUES[name], strict=True)
    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] > 1] == []


@pytest.mark.parametrize("name", VALUES)
def test_what_the_chart_makes_of_values_fits_the_schemas(name: str) -> None:
    for (kind, _), item in objects(VALUES[name]).items():
        if kind in KINDS:
            check(item)
        else:
            kubernetes_validate.validate(item, "1.37", strict=True)


@pytest.mark.parametrize(
    "name", ["max_uplaod_bytes", "redis_url", "host"], ids=["misspelt", "a secret", "of the chart itself"]
)
def test_a_setting_that_has_no_place_in_the_values_is_refused(name: str) -> None:
    with pytest.raises(helm.HelmError, match=name):
        render.rendered({"settings": {name: "1"}})


def test_every_setting_has_its_place_in_the_values_in_the_chart_or_in_a_secret() -> None:
    allowed = set(json.loads((CHART / "values.schema.json").read_text())["properties"]["settings"]["properties"])
    fixed = {"triton_url"}
    assert set(Settings.model_fields) - allowed <= {*SECRET, *render.OWNED}
    assert fixed <= allowed


def test_a_setting_reaches_the_program_as_it_was_given() -> None:
    values = {"settings": {"max_upload_bytes": 10**12, "max_wait_share": 0.5, "webhook_private_targets": True}}
    data = objects(values)["ConfigMap", "vidtr"]["data"]
    assert data["VIDTR_MAX_UPLOAD_BYTES"] == "1000000000000"
    assert (data["VIDTR_MAX_WAIT_SHARE"], data["VIDTR_WEBHOOK_PRIVATE_TARGETS"]) == ("0.5", "true")


def test_grafana_finds_the_dashboards_of_compose_by_their_label() -> None:
    made = objects({"monitoring": {"enabled": True, "dashboardLabels": {"grafana": "yes"}}})
    maps = [item for (kind, name), item in made.items() if kind == "ConfigMap" and "dashboard" in name]
    assert all(item["metadata"]["labels"]["grafana"] == "yes" for item in maps)
    found = [json.loads(text) for item in maps for text in item["data"].values()]
    shipped = [json.loads(path.read_text()) for path in render.DASHBOARDS.glob("*.json")]
    assert len(found) > 1
    assert sorted(found, key=str) == sorted(shipped, key=str)


def test_a_file_of_a_dashboard_has_a_name_of_its_own() -> None:
    made = objects({"monitoring": {"enabled": True}})
    files = [
        name for (kind, _), item in made.items() if kind == "ConfigMap" for name in item["data"] if ".json" in name
    ]
    assert len(files) == len(set(files)) == len([*render.DASHBOARDS.glob("*.json")])


def test_dashboards_can_be_left_out() -> None:
    made = objects({"monitoring": {"enabled": True, "dashboards": False}})
    assert [name for kind, name in made if kind == "ConfigMap"] == ["vidtr"]


def test_longer_uploads_lengthen_whatever_has_to_outlast_them() -> None:
    made = objects({**EVERYTHING, "settings": {"upload_timeout_s": 7200}})
    spec = made["Deployment", "vidtr-api"]["spec"]["template"]["spec"]
    given = {entry["name"]: entry.get("value") for entry in spec["containers"][0]["env"]}
    assert 7200 < int(given["VIDTR_SHUTDOWN_GRACE_S"]) < spec["terminationGracePeriodSeconds"]
    said = made["Ingress", "vidtr-api"]["metadata"]["annotations"]
    assert int(said["nginx.ingress.kubernetes.io/proxy-read-timeout"]) > 7200


def test_under_an_autoscaler_a_release_says_nothing_of_how_many_there_are() -> None:
    deployments = [item for (kind, _), item in objects(EVERYTHING).items() if kind == "Deployment"]
    assert deployments
    assert not any("replicas" in item["spec"] for item in deployments)


def test_two_releases_in_one_namespace_do_not_meet() -> None:
    with helm.Chart.load(CHART) as chart:
        texts = [chart.render({}, name=name, namespace="both") for name in ("one", "two")]
    one, two = (by_name("---\n".join(t for path, t in text.items() if path.endswith(".yaml"))) for text in texts)
    assert not set(one) & set(two)
    selectors = [
        {i["spec"]["selector"]["app.kubernetes.io/instance"] for k, i in o.items() if k[0] == "Service"}
        for o in (one, two)
    ]
    assert selectors == [{"one"}, {"two"}]


def test_models_in_a_store_need_a_way_there_and_no_volume() -> None:
    made = objects(S3)
    spec = made["Deployment", "vidtr-triton"]["spec"]["template"]["spec"]
    assert "--model-repository=s3://models.example.com:443/vidtr" in spec["containers"][0]["args"]
    assert "initContainers" not in spec
    assert "models" not in {volume["name"] for volume in spec["volumes"]}
    [rule] = made["NetworkPolicy", "vidtr-triton"]["spec"]["egress"]
    assert [port["port"] for port in rule["ports"]] == [443]
    asks = made["NetworkPolicy", "vidtr-dns"]["spec"]["podSelector"]["matchExpressions"][0]["values"]
    assert "triton" in asks


@pytest.mark.parametrize("role", ["api", "worker"])
def test_a_password_of_redis_is_a_file_that_is_read_again(role: str) -> None:
    spec = objects(OUTSIDE)["Deployment", f"vidtr-{role}"]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    given = {entry["name"]: entry.get("value") for entry in container["env"]}
    mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volume = mounted[str(Path(given["VIDTR_REDIS_PASSWORD_FILE"]).parent)]
    assert {
        "name": volume,
        "secret": {"secretName": "redis-password", "items": [{"key": "password", "path": "password"}]},
    } in (spec["volumes"])
    assert "/run/redis-ca" in mounted


def test_only_the_worker_has_the_key_that_signs_and_only_its_group_may_read_it() -> None:
    made = objects({"worker": {"signingSecret": "answers"}})
    worker, api = (made["Deployment", f"vidtr-{role}"]["spec"]["template"]["spec"] for role in ("worker", "api"))
    given = {entry["name"]: entry.get("value") for entry in worker["containers"][0]["env"]}
    path = Path(given["VIDTR_SIGNING_KEY_FILE"])
    [mount] = [each for each in worker["containers"][0]["volumeMounts"] if each["mountPath"] == str(path.parent)]
    [volume] = [each["secret"] for each in worker["volumes"] if each["name"] == mount["name"]]
    assert (volume["secretName"], volume["defaultMode"]) == ("answers", 0o440)
    assert [item["path"] for item in volume["items"]] == [path.name]
    assert worker["securityContext"]["fsGroup"] == worker["securityContext"]["runAsGroup"]
    assert "answers" not in str(api)


def test_a_gpu_may_be_a_part_of_one_and_a_second_replica_gets_a_budget() -> None:
    made = objects(OUTSIDE)
    (container,) = made["Deployment", "vidtr-triton"]["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/mig-1g.10gb"] == "1"
    assert ("PodDisruptionBudget", "vidtr-triton") in made


PROMQL = """
rule_files: []
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {series: 'vidtr_queue_clips{namespace="vidtr",model="a",class="interactive",pod="1"}', values: '40'}
      - {series: 'vidtr_queue_clips{namespace="vidtr",model="a",class="interactive",pod="2"}', values: '30'}
      - {series: 'vidtr_queue_clips{namespace="vidtr",model="b",class="interactive",pod="1"}', values: '5'}
      - {series: 'vidtr_queue_clips{namespace="other",model="a",class="interactive",pod="1"}', values: '900'}
      - {series: 'vidtr_workers{namespace="vidtr",breaker="closed"}', values: 'CLOSED'}
      - {series: 'vidtr_workers{namespace="vidtr",breaker="open"}', values: '1'}
    promql_expr_test:
      - expr: QUERY
        eval_time: 0m
        exp_samples: SAMPLES
"""


@pytest.mark.parametrize(("closed", "samples"), [("1", [{"labels": "{}", "value": 45}]), ("0", [])])
def test_workers_are_counted_by_clips_of_all_models_while_one_of_them_scores(
    tmp_path: Path, closed: str, samples: list[Any]
) -> None:
    """Every replica of the API reports the same queue: it counts once."""
    triggers = objects(EVERYTHING)["ScaledObject", "vidtr-worker"]["spec"]["triggers"]
    [query] = [t["metadata"]["query"] for t in triggers if "interactive" in t["metadata"]["query"]]
    written = (
        PROMQL.replace("QUERY", json.dumps(query)).replace("CLOSED", closed).replace("SAMPLES", json.dumps(samples))
    )
    (tmp_path / "queries.yml").write_text(written)
    done = subprocess.run(
        [tool("promtool"), "test", "rules", str(tmp_path / "queries.yml")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
