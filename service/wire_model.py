"""The base of what crosses Redis."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class WireModel(BaseModel):
    """Base of what crosses Redis: a field that a newer writer added is ignored, so old and new processes mix."""

    model_config = ConfigDict(frozen=True, extra="ignore")
