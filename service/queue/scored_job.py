"""Jobs whose clips are all scored, on their way to an outcome."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from service.contracts import ClipScores, JobRecord
from service.queue.clip_entries import ClipEntry
from service.queue.codec import decode_scores


@dataclass(frozen=True)
class ScoredJob:
    """A job that is not finished yet, though all its clips are scored."""

    id: str
    record: JobRecord
    scores: list[ClipScores]
    """in the order of the clips"""
    entries: Sequence[ClipEntry]
    """stream entries that are to go when it is finished"""
    recorded: bool = True
    """whether Redis has the scores"""


def by_job(entries: Iterable[ClipEntry]) -> defaultdict[str, list[ClipEntry]]:
    """Stream entries by the id of their job."""
    grouped: defaultdict[str, list[ClipEntry]] = defaultdict(list)
    for entry in entries:
        grouped[entry.job_id].append(entry)
    return grouped


def scored_job(job_id: str, record: bytes, scores: dict[bytes, bytes], entries: Sequence[ClipEntry]) -> ScoredJob:
    """From what Redis holds of the job."""
    by_clip = {int(clip): decode_scores(value) for clip, value in scores.items()}
    in_order = [by_clip[clip] for clip in sorted(by_clip)]
    return ScoredJob(job_id, JobRecord.model_validate_json(record), in_order, entries)
