"""GET /v1/models and /v1/models/{name}."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from service.api.app_state import ApiState, State
from service.api.auth import identified
from service.api.openapi_examples import MODELS, json_content
from service.api.problems import responses
from service.contracts import ModelSpec
from service.errors import UnknownModel
from service.wire import ModelInfo, ModelList

router = APIRouter(tags=["models"], dependencies=[Depends(identified)])


@router.get(
    "/v1/models",
    operation_id="list_models",
    summary="The models that can be asked now",
    responses={200: json_content(MODELS), **responses("unauthorized", "queue_unavailable", "internal_error")},
)
async def list_models(state: State) -> ModelList:
    """Every model version that a live worker serves."""
    return _listed(state, await state.models.list())


@router.get(
    "/v1/models/{name}",
    operation_id="get_model",
    summary="The served versions of one model",
    responses={
        200: json_content(MODELS),
        **responses("unauthorized", "unknown_model", "queue_unavailable", "internal_error"),
    },
)
async def get_model(name: str, state: State) -> ModelList:
    """The versions of `name` that are served, newest first."""
    versions = [spec for spec in await state.models.list() if spec.name == name]
    if not versions:
        detail = f"Model {name!r} is not served. GET /v1/models lists those that are."
        raise UnknownModel(detail, actual=name)
    return _listed(state, versions)


def _listed(state: ApiState, specs: list[ModelSpec]) -> ModelList:
    newest: dict[str, str] = {}
    for spec in specs:
        newest.setdefault(spec.name, spec.version)
    return ModelList(
        models=[
            ModelInfo.of(spec, default=spec.name == state.default_model and newest[spec.name] == spec.version)
            for spec in specs
        ],
        by_url=state.fetches_urls,
    )
