"""`make pin-images`, with a program in Docker's place that answers as `docker buildx imagetools inspect` does."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.compose.tools import ROOT, tool

DOCKER = """#!{python}
import hashlib, json, sys
*command, image, option, template = sys.argv[1:]
assert command == ["buildx", "imagetools", "inspect"], sys.argv
assert (option, template) == ("--format", "{{{{json .Manifest}}}}"), sys.argv
if image in {unknown!r}:
    sys.exit(f"ERROR: {{image}}: not found")
digest = "sha256:" + hashlib.sha256(image.encode()).hexdigest()
kind = "application/vnd.oci.image.index.v1+json"
print(json.dumps({{"schemaVersion": 2, "mediaType": kind, "digest": digest, "size": 1609, "manifests": []}}))
"""
REDIS = "redis:8.6.3-alpine"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The files that name images, and the tool, in a folder of their own."""
    for name in ("docker-compose.yml", "docker/Dockerfile", "docker/pin_images.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "deploy" / "k8s", tmp_path / "deploy" / "k8s")
    return tmp_path


def pin(copy: Path, unknown: tuple[str, ...] = (), docker: bool = True) -> subprocess.CompletedProcess[str]:
    programs = copy / "bin"
    programs.mkdir(exist_ok=True)
    if docker:
        (programs / "docker").write_text(DOCKER.format(python=sys.executable, unknown=unknown))
        (programs / "docker").chmod(0o755)
    return subprocess.run(
        [sys.executable, str(copy / "docker" / "pin_images.py")],
        env={"PATH": str(programs)},
        capture_output=True,
        text=True,
    )


def pinned(image: str) -> str:
    return f"{image}@sha256:{hashlib.sha256(image.encode()).hexdigest()}"


def images_env(copy: Path) -> dict[str, str]:
    lines = (copy / "docker" / "images.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


def test_every_image_of_others_is_pinned_under_its_variable(copy: Path) -> None:
    assert pin(copy).returncode == 0
    written = images_env(copy)
    services = yaml.safe_load((copy / "docker-compose.yml").read_text())["services"]
    tags = {name: image.partition("@")[0] for name, image in written.items()}
    assert written == {name: pinned(tag) for name, tag in tags.items()}
    assert f"ARG PYTHON_IMAGE={tags.pop('PYTHON_IMAGE')}\n" in (copy / "docker" / "Dockerfile").read_text()
    others = {service["image"] for service in services.values() if "build" not in service}
    assert others == {f"${{{name}:-{tag}}}" for name, tag in tags.items()}


def test_compose_takes_the_digests_for_containers_and_builds(copy: Path) -> None:
    pin(copy)
    # Not of this machine's environment, which comes before the file's.
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_IMAGE")}
    done = subprocess.run(
        [tool("docker-compose"), "--env-file", "docker/images.env", "--profile", "*", "config", "--format", "json"],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    services = json.loads(done.stdout)["services"]
    written = images_env(copy)
    assert {s["image"] for s in services.values() if "build" not in s} == set(written.values()) - {
        written["PYTHON_IMAGE"]
    }
    builds = [s["build"]["args"] for s in services.values() if "build" in s]
    assert builds == [{"PYTHON_IMAGE": written["PYTHON_IMAGE"]}] * 3


def test_the_manifests_get_a_digest_for_every_image_with_a_tag(copy: Path) -> None:
    pin(copy)
    overlay = yaml.safe_load((copy / "deploy" / "pinned" / "kustomization.yaml").read_text())
    text = "".join(path.read_text() for path in sorted((copy / "deploy" / "k8s" / "base").glob("*.yaml")))
    tagged = set(re.findall(r"image: (?!vidtr-serve-)(\S+):(\S+)", text))
    assert tagged
    assert {(entry["name"], entry["digest"]) for entry in overlay["images"]} == {
        (name, pinned(f"{name}:{tag}").partition("@")[2]) for name, tag in tagged
    }
    assert [(copy / "deploy" / "pinned" / path).resolve() for path in overlay["resources"]] == [copy / "deploy" / "k8s"]


def test_an_unknown_image_is_named_and_what_was_pinned_before_stays(copy: Path) -> None:
    pin(copy)
    before = (copy / "docker" / "images.env").read_text()
    done = pin(copy, unknown=(REDIS,))
    assert done.returncode == 1
    assert done.stderr == f"{REDIS}: ERROR: {REDIS}: not found\n"
    assert (copy / "docker" / "images.env").read_text() == before


def test_without_docker_the_error_says_that_it_is_missing(copy: Path) -> None:
    done = pin(copy, docker=False)
    assert done.returncode == 1
    assert "docker is not installed" in done.stderr
    assert not (copy / "docker" / "images.env").exists()
