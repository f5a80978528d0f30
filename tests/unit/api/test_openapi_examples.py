"""The examples of the OpenAPI document are what its schemas say, and what the code really gives."""

from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from service.api.app import create_app
from service.contracts import JobResult
from service.settings import Settings

DOCUMENT = create_app(Settings(_env_file=None)).openapi()


def examples() -> Iterator[Any]:
    """Each example with its schema: of bodies and answers, and of the fields of shapes."""
    for path, operations in DOCUMENT["paths"].items():
        for method, operation in operations.items():
            bodies = {"body": operation.get("requestBody", {}), **operation["responses"]}
            for name, body in bodies.items():
                for media, content in body.get("content", {}).items():
                    given = [content["example"]] if "example" in content else []
                    given += [each["value"] for each in content.get("examples", {}).values()]
                    for number, example in enumerate(given):
                        case = f"{method} {path} {name} {media} {number}"
                        yield pytest.param(content.get("schema", {}), example, id=case)
    for name, shape in DOCUMENT["components"]["schemas"].items():
        for field, schema in shape.get("properties", {}).items():
            for number, example in enumerate(schema.get("examples", [])):
                yield pytest.param(schema, example, id=f"{name}.{field} {number}")


@pytest.mark.parametrize(("schema", "example"), list(examples()))
def test_an_example_fits_its_schema(schema: dict[str, Any], example: Any) -> None:
    whole = {**schema, "components": DOCUMENT["components"]}
    Draft202012Validator(whole).validate(example)


def test_the_document_has_an_example_of_an_answer_and_of_every_field_of_a_problem() -> None:
    answers = DOCUMENT["paths"]["/v1/classify"]["post"]["responses"]["200"]["content"]
    assert {*answers["application/json"]["examples"]} >= {"one_window", "nothing_clear"}
    problem = DOCUMENT["components"]["schemas"]["Problem"]["properties"]
    assert [name for name, schema in problem.items() if not schema.get("examples") and name != "title"] == []


def test_the_example_of_an_answer_holds_every_field_that_an_answer_always_has() -> None:
    content = DOCUMENT["paths"]["/v1/classify"]["post"]["responses"]["200"]["content"]
    example = content["application/json"]["examples"]["one_window"]["value"]
    assert JobResult.model_validate(example).model_dump(mode="json", exclude_none=True) == example


def test_every_body_and_every_answer_with_a_body_has_a_named_example() -> None:
    lacking = []
    for path, operations in DOCUMENT["paths"].items():
        for method, operation in operations.items():
            bodies = {"body": operation.get("requestBody", {}), **operation["responses"]}
            for name, body in bodies.items():
                for media, content in body.get("content", {}).items():
                    # A video is none that a document could show.
                    binary = content.get("schema", {}).get("format") == "binary" or media == "multipart/form-data"
                    if not binary and not content.get("examples") and path.startswith("/v1/"):
                        lacking.append(f"{method} {path} {name} {media}")
    assert lacking == []


def test_a_wrong_example_would_be_noticed() -> None:
    whole = {"$ref": "#/components/schemas/JobResult", "components": DOCUMENT["components"]}
    assert not Draft202012Validator(whole).is_valid({"id": 3})


def test_the_bounds_of_numbers_in_queries_are_in_the_document() -> None:
    queries = {
        parameter["name"]: parameter["schema"]
        for path in ("/v1/classify", "/v1/jobs")
        for operation in DOCUMENT["paths"][path].values()
        for parameter in operation["parameters"]
        if parameter["in"] == "query"
    }
    assert (queries["limit"]["minimum"], queries["limit"]["maximum"]) == (1, 100)
    assert (queries["top_k"]["minimum"], queries["top_k"]["maximum"]) == (1, 1000)
    assert queries["start"]["minimum"] == 0
