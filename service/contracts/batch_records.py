"""Batches: many videos by reference under one id."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from service.contracts.job_requests import JobRequest
from service.contracts.wire_types import SCHEMA_VERSION
from service.wire_model import WireModel

BatchId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
LineState = Literal["succeeded", "failed", "cancelled"]


class BatchState(StrEnum):
    """Where a batch stands."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether every line has ended."""
        return self in (BatchState.COMPLETED, BatchState.CANCELLED)


class BatchLine(WireModel):
    """One line of a manifest."""

    line: int = Field(description="its number in the manifest, from 1")
    url: str
    id: str | None = Field(None, description="what the caller calls it")
    options: JobRequest


class BatchRecord(WireModel):
    """What a batch was opened with."""

    schema_version: int = SCHEMA_VERSION
    id: BatchId
    owner: str = Field(description="the tenant that sent it: `service.api.auth.Principal.tenant`")
    key_name: str = Field(description="name of the API key; empty for a caller without one")
    identity: str = Field(description="what quotas and shares of its jobs are counted by")
    digest: str = Field(description="SHA-256 of the manifest and the options: equal for a request that is repeated")
    total: int = Field(description="lines")
    request_id: str = ""
    destination: str | None = Field(None, description="URL of the object that gets the results")
    webhook: str | None = Field(None, description="URL that gets a message when the batch has ended")


class LineOutcome(WireModel):
    """How a line ended. The result itself stays with its job."""

    status: LineState
    job: str | None = None
    error: dict[str, Any] | None = Field(None, description="payload of `service.errors.VidtrError.to_dict`")
