"""What the examples write down of the API is what its OpenAPI document says."""

import re
from pathlib import Path

import pytest

from service.api.app import create_app
from service.api.schemas import ClassifyOptions
from service.settings import Settings

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
CLIENT = (EXAMPLES / "typescript" / "vidtr.ts").read_text(encoding="utf-8")
SHAPES = {
    "Prediction": "Prediction",
    "FrameAttention": "FrameAttention",
    "Window": "WindowResult",
    "Evidence": "WindowEvidence",
    "Warning": "AnswerWarning",
    "Result": "JobResult",
    "Job": "JobStatus",
    "Problem": "Problem",
}


def fields(interface: str) -> set[str]:
    """Fields of an interface of the TypeScript client."""
    body = CLIENT.partition(f"export interface {interface} {{\n")[2].partition("\n}\n")[0]
    return set(re.findall(r"^  (\w+)\??:", body, re.M))


@pytest.mark.parametrize("interface", SHAPES)
def test_a_shape_of_the_typescript_client_has_fields_of_the_api(interface: str) -> None:
    schemas = create_app(Settings(_env_file=None)).openapi()["components"]["schemas"]
    assert fields(interface)
    assert fields(interface) <= set(schemas[SHAPES[interface]]["properties"])


def test_the_typescript_client_has_every_option_of_a_classification() -> None:
    assert fields("Options") == set(ClassifyOptions.model_fields)


def test_every_example_is_in_the_list_of_examples() -> None:
    listed = set(re.findall(r"^\| \[`([\w.]+)", (EXAMPLES / "README.md").read_text(encoding="utf-8"), re.M))
    assert listed == {path.name for path in EXAMPLES.iterdir()} - {"README.md"}
