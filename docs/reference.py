"""The page of all routes and shapes, written from the OpenAPI document."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from service.api.app import create_app
from service.settings import Settings


def page() -> str:
    """Markdown of the whole reference."""
    document = create_app(Settings(_env_file=None)).openapi()
    return "\n".join(_lines(document)) + "\n"


def _lines(document: dict[str, Any]) -> Iterator[str]:
    yield "# Reference of the API"
    yield ""
    yield f"Generated from the OpenAPI document of version {document['info']['version']}, which a server gives at"
    yield "`/openapi.json`. [The HTTP API](api.md) explains what is only listed here."
    yield ""
    yield "## All routes"
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield from _operation(method, path, operation)
    yield ""
    yield "## All shapes"
    for name, schema in sorted(document["components"]["schemas"].items()):
        yield from _schema(name, schema)


def _operation(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield f"### {method.upper()} {path}"
    yield ""
    yield operation.get("summary", "") + "."
    yield ""
    yield operation.get("description", "")
    if parameters := operation.get("parameters"):
        yield ""
        yield "| parameter | in | type | meaning |"
        yield "|---|---|---|---|"
        for each in parameters:
            yield f"| `{each['name']}` | {each['in']} | {_type(each['schema'])} | {_text(each.get('description'))} |"
    yield ""
    yield "| status | answer |"
    yield "|---|---|"
    for status, answer in sorted(operation["responses"].items()):
        yield f"| {status} | {_text(answer['description'])} |"
    for answer in operation["responses"].values():
        for media, content in answer.get("content", {}).items():
            if "example" in content:
                yield from (
                    "",
                    f"An answer, `{media}`:",
                    "",
                    "```json",
                    json.dumps(content["example"], indent=1),
                    "```",
                )


def _schema(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield f"### {name}"
    yield ""
    yield schema.get("description", "")
    if "enum" in schema:
        yield ""
        yield "One of " + ", ".join(f"`{value}`" for value in schema["enum"]) + "."
    if properties := schema.get("properties"):
        required = schema.get("required", [])
        yield ""
        yield "| field | type | meaning |"
        yield "|---|---|---|"
        for field, each in properties.items():
            always = "" if field in required else ", optional"
            yield f"| `{field}` | {_type(each)}{always} | {_text(each.get('description'))} |"


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}" if "items" in schema else "list"
    return str(schema.get("type", "anything"))


def _text(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")
