"""Who may import whom, beyond the packages of `service/` that the import contracts cover."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def imported(path: Path) -> set[str]:
    """The top-level packages that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("service", {"testing", "tests", "benchmarks"}),
        ("testing", {"tests", "benchmarks"}),
        ("benchmarks", {"tests"}),
    ],
)
def test_a_package_imports_nothing_from_those_above_it(package: str, forbidden: set[str]) -> None:
    modules = list((ROOT / package).rglob("*.py"))
    assert modules
    assert [str(path.relative_to(ROOT)) for path in modules if imported(path) & forbidden] == []
