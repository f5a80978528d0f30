"""What a release repeats in several places is the same in all of them."""

import re
from pathlib import Path

import pytest

import service

ROOT = Path(__file__).parents[2]
REPOSITORY = "https://github.com/vidtr-serve/vidtr-serve"

REPEATED = {
    "docker/Dockerfile": r"^ARG VERSION=(.+)$",
    "docker-compose.yml": r"\$\{VIDTR_VERSION:-(.+)\}",
    "deploy/helm/vidtr/Chart.yaml": r"^(?:appV|v)ersion: (.+)$",
    "deploy/k8s/base/api.yaml": r"image: vidtr-serve-api:(.+)$",
    "docs/cli.md": r"^vidtr (\d.+)$",
}


@pytest.mark.parametrize("name", REPEATED)
def test_a_file_that_repeats_the_version_has_that_of_the_code(name: str) -> None:
    found = re.findall(REPEATED[name], (ROOT / name).read_text(encoding="utf-8"), re.M)
    assert set(found) == {service.__version__}


def test_the_recipe_of_a_release_names_every_file_that_repeats_the_version() -> None:
    recipe = (ROOT / "docs" / "releasing.md").read_text(encoding="utf-8")
    assert [name for name in REPEATED if f"`{name}`" not in recipe] == []


def test_the_changelog_has_a_section_for_the_version_of_the_code() -> None:
    sections = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert sections[0] == "Unreleased"
    assert sections[1] == service.__version__


@pytest.mark.parametrize(
    "page", sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]), ids=lambda page: page.name
)
def test_a_page_names_one_address_of_the_repository(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "example.org/vidtr-serve" not in text
    assert all(address.startswith(REPOSITORY) for address in re.findall(r"https://github\.com/\S*vidtr-serve\S*", text))
