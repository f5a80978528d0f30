"""The deployment files, checked without an engine."""

import importlib.metadata
import importlib.util
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.inference.triton_access import restrictions
from service.settings import Settings
from tests.compose.tools import ROOT, tool

COMPOSE = ROOT / "docker-compose.yml"
GPU = ROOT / "compose.gpu.yml"
SIGNING = ROOT / "compose.signing.yml"
PROMETHEUS = ROOT / "docker" / "prometheus"
DASHBOARDS = ROOT / "docker" / "grafana"


def run(*command: str | Path, cwd: Path = ROOT) -> None:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


LASTING = [name for name in services() if name != "secrets"]
DEFAULT = [name for name in services() if "profiles" not in services()[name]]


def test_the_dockerfile_passes_its_linter() -> None:
    run(tool("hadolint"), "docker/Dockerfile")


@pytest.mark.parametrize("path", [COMPOSE, GPU, SIGNING], ids=lambda path: path.name)
def test_a_compose_file_fits_the_schema(path: Path) -> None:
    run(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", path)


@pytest.mark.parametrize("files", [(COMPOSE,), (COMPOSE, GPU), (COMPOSE, SIGNING)], ids=["cpu", "gpu", "signing"])
def test_compose_resolves_the_files(files: tuple[Path, ...]) -> None:
    run(tool("docker-compose"), *(part for path in files for part in ("-f", path)), "--profile", "*", "config", "-q")


@pytest.mark.parametrize("name", services())
def test_a_service_is_hardened(name: str) -> None:
    service = services()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", LASTING)
def test_a_service_comes_back_and_is_bounded(name: str) -> None:
    service = services()[name]
    assert service["restart"] == "unless-stopped"
    assert service["deploy"]["resources"]["limits"]["memory"]


def test_only_the_api_and_grafana_are_published() -> None:
    assert {name for name, service in services().items() if name in DEFAULT and service.get("ports")} == {
        "api",
        "grafana",
    }


def test_what_is_not_published_has_no_way_out() -> None:
    networks = yaml.safe_load(COMPOSE.read_text())["networks"]
    assert all(networks[name] == {"internal": True} for name in ("backend", "monitoring"))
    assert {name for name in DEFAULT if "edge" in services()[name].get("networks", ())} == {
        "api",
        "grafana",
        "alertmanager",
    }


def sharing(network: str) -> set[str]:
    return {name for name, service in services().items() if network in service.get("networks", ())}


def test_only_the_worker_and_prometheus_reach_triton() -> None:
    networks = services()["triton"]["networks"]
    assert {name: sharing(name) - {"triton"} for name in networks} == {
        "inference": {"worker"},
        "triton-metrics": {"prometheus"},
    }
    declared = yaml.safe_load(COMPOSE.read_text())["networks"]
    assert all(declared[name] == {"internal": True} for name in networks)


def test_triton_asks_for_its_key_for_all_but_health() -> None:
    script = services()["triton"]["command"][2]
    for option in restrictions("$$key"):
        protocols, _, value = option.partition("=")[2].partition(":")
        assert f"restricted={protocols}:{value}" in script
        assert f"{option.partition('=')[0]}=$$restricted" in script


def test_the_key_of_triton_is_made_for_triton_and_the_worker_alone() -> None:
    holders = {
        name: [volume for volume in service["volumes"] if re.match(r"secrets-(worker|triton):", volume)]
        for name, service in services().items()
        if name != "secrets" and "volumes" in service
    }
    assert {name: volumes for name, volumes in holders.items() if volumes} == {
        "worker": ["secrets-worker:/run/secrets:ro"],
        "triton": ["secrets-triton:/secrets/triton:ro"],
    }


def test_only_the_worker_has_the_key_that_signs() -> None:
    found = yaml.safe_load(SIGNING.read_text())["services"]
    assert set(found) == {"api", "worker"}
    [private], [public] = found["worker"]["volumes"], found["api"]["volumes"]
    assert private.split(":")[-2] == found["worker"]["environment"]["VIDTR_SIGNING_KEY_FILE"]
    assert public.split(":")[-2] == found["api"]["environment"]["VIDTR_SIGNING_PUBLIC_KEYS_FILE"]
    assert "SIGNING_KEY_FILE" not in str(found["api"])
    assert all(volume.endswith(":ro") for volume in (private, public))


def test_redis_restarts_when_its_access_list_is_written_for_a_new_release() -> None:
    assert services()["redis"]["depends_on"]["secrets"]["restart"] is True


@pytest.mark.parametrize("name", services())
def test_an_image_is_pinned(name: str) -> None:
    default = re.sub(r"\$\{\w+:-(.*)\}", r"\1", services()[name]["image"])
    assert re.search(r":v?\d+\.\d+", default)


def test_worker_and_triton_of_a_gpu_server_share_memory() -> None:
    gpu = yaml.safe_load(GPU.read_text())["services"]
    *flags, shared = gpu["triton"]["command"]
    assert flags == services()["triton"]["command"]
    assert "--allow-client-shm=true" in shared
    assert gpu["worker"]["environment"]["VIDTR_TRITON_SHARED_MEMORY"] == "true"
    assert gpu["worker"]["volumes"] == gpu["triton"]["volumes"] == ["shm:/dev/shm"]


def test_a_worker_before_a_gpu_has_several_batches_in_flight() -> None:
    gpu = yaml.safe_load(GPU.read_text())["services"]
    assert gpu["worker"]["environment"]["VIDTR_WORKER_BATCHES_IN_FLIGHT"] == "${VIDTR_WORKER_BATCHES_IN_FLIGHT:-4}"


def test_redis_of_a_gpu_server_holds_more_than_the_queue_may() -> None:
    gpu = yaml.safe_load(GPU.read_text())["services"]
    assert gpu["redis"]["command"][::2] == services()["redis"]["command"][::2], "other values, the same options"
    queue = int(re.sub(r"\$\{\w+:-(.*)\}", r"\1", gpu["api"]["environment"]["VIDTR_MAX_QUEUE_BYTES"]))
    redis = int(re.sub(r"\$\{\w+:-(.*)gb\}", r"\1", gpu["redis"]["command"][3])) * 2**30
    assert 2 * queue <= redis


def test_full_precision_on_a_gpu_is_multiplied_in_tf32_unless_it_is_turned_off() -> None:
    gpu = yaml.safe_load(GPU.read_text())["services"]
    assert gpu["triton"]["environment"]["TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"] == "${TRITON_TF32:-1}"


def test_every_variable_of_ours_is_a_setting() -> None:
    known = {f"VIDTR_{name.upper()}" for name in Settings.model_fields} | {"VIDTR_VERSION"}
    text = COMPOSE.read_text() + GPU.read_text() + SIGNING.read_text() + (ROOT / "docker" / "Dockerfile").read_text()
    assert set(re.findall(r"\bVIDTR_[A-Z_]+\b", text)) <= known | {"VIDTR_"}


@pytest.mark.parametrize("name", ["api", "worker"])
def test_an_image_has_no_torch(name: str) -> None:
    packages = re.findall(r"^([\w.-]+)==", (ROOT / "docker" / "locks" / f"{name}.txt").read_text(), re.M)
    assert "redis" in packages
    assert not {"torch", "triton", "nvidia-cublas"} & set(packages)


@pytest.mark.parametrize("name", ["api", "worker"])
def test_a_lock_file_holds_the_versions_that_are_tested(name: str) -> None:
    tested = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "constraints.txt").read_text().lower(), re.M))
    locked = dict(re.findall(r"^([\w.-]+)==([^\s\\;]+)", (ROOT / "docker" / "locks" / f"{name}.txt").read_text(), re.M))
    tested = {key.replace("_", "-"): version for key, version in tested.items()}
    differing = {key: (version, tested[key]) for key, version in locked.items() if tested.get(key, version) != version}
    assert differing == {}


@pytest.mark.parametrize("name", ["api", "worker"])
def test_a_lock_file_holds_every_package_that_the_image_imports(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"][name]]
    names = {re.match(r"[\w-]+", line)[0].lower() for line in wanted}  # type: ignore[index]
    assert names <= set(re.findall(r"^([\w.-]+)==", (ROOT / "docker" / "locks" / f"{name}.txt").read_text(), re.M))


# What may be passed on with an image; weak copyleft stays with the package that has it.
LICENCES = re.compile(r"Apache|BSD|MIT|ISC|PSF|Zlib|CC0|MPL|Mozilla Public|LGPL|Lesser General")


@pytest.mark.parametrize("name", ["api", "worker"])
def test_every_package_of_an_image_has_a_licence_that_lets_it_be_passed_on(name: str) -> None:
    locked = re.findall(r"^([\w.-]+)==", (ROOT / "docker" / "locks" / f"{name}.txt").read_text(), re.M)
    found = {package: licence(package) for package in locked}
    assert sum(text is not None for text in found.values()) > len(locked) - 5, "the packages are not installed here"
    assert {package: text for package, text in found.items() if text is not None and not LICENCES.search(text)} == {}


def licence(package: str) -> str | None:
    """What an installed package says of its licence; None where it is not installed."""
    try:
        metadata = importlib.metadata.metadata(package)
    except importlib.metadata.PackageNotFoundError:
        return None
    classifiers = [line for line in metadata.get_all("Classifier") or [] if line.startswith("License")]
    return " ".join(filter(None, [metadata["License-Expression"], *classifiers, (metadata["License"] or "")[:60]]))


# --- Redis ---------------------------------------------------------------------------------------------------------


def bytes_of(name: str) -> int:
    """The default of a variable of Compose that is a size in Redis' or Docker's way: both count in powers of 1024."""
    (size,) = set(re.findall(rf"\$\{{{name}:-(\d+)gb?\}}", COMPOSE.read_text()))
    return int(size) * 1024**3


def test_redis_holds_a_full_queue_and_all_dead_letters_with_room_for_jobs_and_results() -> None:
    settings = Settings(_env_file=None)
    clips = settings.max_queue_bytes + settings.dead_letter_max_bytes
    assert bytes_of("REDIS_MAXMEMORY") >= 1.5 * clips


def test_the_container_of_redis_has_room_for_what_a_rewrite_copies() -> None:
    assert bytes_of("REDIS_MEMORY") >= 1.5 * bytes_of("REDIS_MAXMEMORY")


# --- Prometheus ----------------------------------------------------------------------------------------------------


def test_promtool_accepts_the_configuration() -> None:
    run(tool("promtool"), "check", "config", "prometheus.yml", cwd=PROMETHEUS)


def test_promtool_passes_the_tests_of_the_alerts() -> None:
    run(tool("promtool"), "test", "rules", "rules_test.yml", cwd=PROMETHEUS)


def test_amtool_accepts_the_routing() -> None:
    run(tool("amtool"), "check-config", ROOT / "docker" / "alertmanager" / "alertmanager.yml")


def alerts() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def test_every_alert_has_a_test_that_fires_it_and_one_that_does_not() -> None:
    tests = yaml.safe_load((PROMETHEUS / "rules_test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == set(alerts())
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == set(alerts())


def test_every_alert_has_its_runbook_and_no_runbook_is_left_over() -> None:
    headings = re.findall(r"^## (\w+)$", (ROOT / "docs" / "runbooks.md").read_text(), re.M)
    assert sorted(headings) == sorted(alerts())
    for name, rule in alerts().items():
        assert rule["annotations"]["runbook"] == f"docs/runbooks.md#{name.lower()}"


# --- Grafana -------------------------------------------------------------------------------------------------------


def generator() -> Any:
    spec = importlib.util.spec_from_file_location("generate", DASHBOARDS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_dashboards_are_those_of_the_generator() -> None:
    made = generator()
    files = {path.name: path.read_text() for path in (DASHBOARDS / "dashboards").glob("*.json")}
    assert files == {f"{made.slug(title)}.json": made.text(title) for title in made.DASHBOARDS}
