"""The OpenAPI document: FastAPI's own, with what it does not know of bodies, errors and keys."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.api import problems
from service.api.problems import Problem
from service.api.schemas import VideoReference
from service.contracts.stream_requests import StreamRequest


def install(app: FastAPI, *, key_needed: bool) -> None:
    """Have `app` describe its routes as they are; without `key_needed` requests may have no API key."""

    def openapi() -> dict[str, object]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, summary=app.summary, version=app.version, routes=app.routes)
            schemas = schema["components"]["schemas"]
            for model in (Problem, VideoReference, StreamRequest):
                added = model.model_json_schema(ref_template="#/components/schemas/{model}")
                schemas.update(added.pop("$defs", {}))
                schemas[model.__name__] = added
            # FastAPI adds its own 422 shape to every route; ours is the problem.
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            for path in schema["paths"].values():
                for operation in path.values():
                    _problem_for_422(operation)
                    for parameter in operation.get("parameters", ()):
                        _never_null(parameter["schema"])
                    if "security" in operation and not key_needed:
                        operation["security"].append({})
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _never_null(schema: dict[str, Any]) -> None:
    """A query parameter or header is there or not: none can be sent that is null."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) == 1:
        del schema["anyOf"]
        schema.update(kinds[0])
    elif kinds:
        schema["anyOf"] = kinds


def _problem_for_422(operation: dict[str, Any]) -> None:
    answer = operation["responses"].get("422")
    if answer is not None and "application/json" in answer.get("content", {}):
        operation["responses"]["422"] = problems.responses("invalid_option")[422]
