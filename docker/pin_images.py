"""Pins the images of others by digest: `make pin-images`, where their registries answer.

Asks Docker which digest each tag of docker-compose.yml, docker/Dockerfile and deploy/k8s stands for, and writes
docker/images.env                 for `docker compose --env-file`, builds included
deploy/pinned/kustomization.yaml  for `kubectl apply -k`: deploy/k8s with these images

Where one cannot be resolved, it says so, ends with status 1 and leaves both files as they were.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENV_FILE = ROOT / "docker" / "images.env"
KUSTOMIZATION = ROOT / "deploy" / "pinned" / "kustomization.yaml"
TIMEOUT_S = 120
OWN = "vidtr-serve-"
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def variables() -> dict[str, str]:
    """The image that each variable of Compose and of the image builds names by default."""
    compose = re.findall(r"\$\{(\w+_IMAGE):-([^}]+)\}", (ROOT / "docker-compose.yml").read_text())
    builds = re.findall(r"^ARG (\w+_IMAGE)=(\S+)$", (ROOT / "docker" / "Dockerfile").read_text(), re.MULTILINE)
    return dict(compose + builds)


def of_kubernetes() -> list[str]:
    """The images of the manifests but our own, which no registry of others holds."""
    manifests = sorted((ROOT / "deploy" / "k8s" / "base").glob("*.yaml"))
    found = (re.findall(r"^ *-? *image: *(\S+:\w\S*)$", path.read_text(), re.MULTILINE) for path in manifests)
    return sorted({image for images in found for image in images if not image.startswith(OWN)})


def digest(image: str) -> str:
    """The digest of `image`'s manifest, of all its architectures where there are several. Raises SystemExit."""
    command = ["docker", "buildx", "imagetools", "inspect", image, "--format", "{{json .Manifest}}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)  # noqa: S603
    except FileNotFoundError:
        raise SystemExit("docker is not installed, or not on PATH: it is what asks the registries") from None
    except subprocess.TimeoutExpired:
        raise SystemExit(f"{image}: no answer within {TIMEOUT_S} s") from None
    if done.returncode != 0:
        raise SystemExit(f"{image}: {done.stderr.strip()}")
    found = str(json.loads(done.stdout).get("digest"))
    if not DIGEST.fullmatch(found):
        raise SystemExit(f"{image}: {found!r} is not a SHA-256 digest")
    return found


def main() -> None:
    named, deployed = variables(), of_kubernetes()
    digests = {image: digest(image) for image in sorted({*named.values(), *deployed})}
    lines = [f"{name}={image}@{digests[image]}\n" for name, image in named.items()]
    ENV_FILE.write_text("# Written by `make pin-images`.\n" + "".join(lines))
    images = [f"  - name: {image.rpartition(':')[0]}\n    digest: {digests[image]}\n" for image in deployed]
    KUSTOMIZATION.parent.mkdir(exist_ok=True)
    KUSTOMIZATION.write_text(
        "# Written by `make pin-images`.\napiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
        "resources: [../k8s]\nimages:\n" + "".join(images)
    )
    sys.stdout.write("".join(lines))


if __name__ == "__main__":
    main()
