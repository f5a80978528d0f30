"""Batches: what a manifest may have, how many run, how long they are kept."""

from __future__ import annotations

from pydantic import BaseModel, Field

from service.settings.setting_types import MIB, CommaList


class BatchSettings(BaseModel):
    """Batches: what a manifest may have, how many run, how long they are kept."""

    max_batch_lines: int = Field(10_000, gt=0, le=100_000, description="Most lines of a batch's manifest.")
    max_manifest_bytes: int = Field(8 * MIB, gt=0, le=64 * MIB, description="Most bytes of a batch's manifest.")
    max_open_batches: int = Field(10, gt=0, description="Batches that a caller may have at a time that have not ended.")
    batch_concurrency: int = Field(4, gt=0, le=64, description="Lines of one batch that are worked on at a time.")
    batch_deadline_s: int = Field(
        86_400, gt=0, description="Longest that a batch may take; the lines that have not ended then fail."
    )
    batch_destinations: CommaList = Field(
        (),
        description="Buckets into which results of batches may be written, as `s3://name` or `gs://name`. When empty:"
        " none.",
    )
    batch_ttl_s: int = Field(86_400, gt=0, description="Time after the end of a batch when it and its results expire.")
