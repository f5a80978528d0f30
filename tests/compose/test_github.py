"""The files of the public repository, by the schemas of their readers and against what they name."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.compose.tools import tool

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
SCHEMAS = {
    "vendor.github-workflows": WORKFLOWS,
    "vendor.dependabot": [GITHUB / "dependabot.yml"],
    "vendor.github-issue-forms": [GITHUB / "ISSUE_TEMPLATE" / name for name in ("bug.yml", "feature.yml")],
    "vendor.github-issue-config": [GITHUB / "ISSUE_TEMPLATE" / "config.yml"],
}


def project() -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table


def commands(text: str) -> set[str]:
    """The targets of make that a text calls."""
    return set(re.findall(r"\bmake ([a-z][a-z-]*)", text))


@pytest.mark.parametrize("schema", SCHEMAS)
def test_github_can_read_its_files(schema: str) -> None:
    done = subprocess.run(
        [tool("check-jsonschema"), "--builtin-schema", schema, *SCHEMAS[schema]], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_the_workflows_pass_the_checker_of_workflows() -> None:
    done = subprocess.run([tool("actionlint"), *WORKFLOWS], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_workflows_call_targets_that_the_makefile_has() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    called = {name for path in WORKFLOWS for name in commands(path.read_text(encoding="utf-8"))}
    assert called
    assert called <= targets


def test_ci_tests_each_python_that_the_package_says_it_runs_on() -> None:
    jobs = yaml.safe_load((GITHUB / "workflows" / "test.yml").read_text(encoding="utf-8"))["jobs"]
    claimed = [each.rpartition(" ")[2] for each in project()["classifiers"] if re.search(r":: 3\.\d+$", each)]
    assert jobs["unit"]["strategy"]["matrix"]["python"] == claimed


def test_each_hook_before_a_commit_is_a_check_of_lint() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\nlint:")[2].partition("\n\n")[0]
    ran = {Path(line.split()[0]).name for line in re.findall(r"^\t(.+)$", recipe, re.M)}
    assert {Path(hook["entry"].split()[0]).name for hook in hooks} == ran
