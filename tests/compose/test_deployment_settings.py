"""Where the deployments give each setting, against the table of the documentation."""

import functools
import re
from typing import Any

import yaml

from service.settings import Settings
from tests.compose.manifests import environment, pod
from tests.compose.tools import ROOT

DEPLOYMENT = ROOT / "docs" / "deployment.md"
TABLE = ROOT / "docs" / "deployment-settings.md"


@functools.cache
def compose_services() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"])


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
    in_secret = f"Secret `vidtr-api`: file `vidtr_{name}`"
    if name == "webhook_secret":
        return f"| [`{name}`](settings.md#{name}) | file `vidtr_{name}` in the volume `secrets-client` | {in_secret} |"
    if name == "signing_key_file":
        compose_file = "`compose.signing.yml`, worker: `/run/signing/key.pem`"
        of_worker = "Secret `worker.signingSecret`: file `signing_key.pem`"
        return f"| [`{name}`](settings.md#{name}) | {compose_file} | {of_worker} |"
    if name == "signing_public_keys_file":
        compose_file = "`compose.signing.yml`, api: `/run/signing/public_keys.pem`"
        in_pod = f"ConfigMap `vidtr`: `{variable}`; Secret `vidtr-api`: file `signing_public_keys.pem`"
        return f"| [`{name}`](settings.md#{name}) | {compose_file} | {in_pod} |"
    if name == "api_keys":
        return f"| [`{name}`](settings.md#{name}) | `.env`: `{variable}` | Secret `vidtr-api`: file `api_keys.toml` |"
    return (
        f"| [`{name}`](settings.md#{name}) | {cell(compose, f'`.env`: `{variable}`')}"
        f" | {cell(kubernetes, f'ConfigMap `vidtr`: `{variable}`')} |"
    )


def test_the_table_maps_every_setting_to_compose_and_kubernetes() -> None:
    table = re.findall(r"^\| \[`\w+`\]\(settings\.md#.*$", TABLE.read_text(), re.M)
    assert table == [row(name) for name in Settings.model_fields], (
        "run: python -m tests.compose.test_deployment_settings"
    )


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
