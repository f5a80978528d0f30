"""The decoding of an upload: by its deadline, and at the caller's expense where it fails."""

from __future__ import annotations

import asyncio
import math
import time

from service.api.admission import Admitted
from service.api.auth import Authenticator
from service.api.spool import Spool
from service.api.staging import Staging
from service.api.submission import Submission
from service.contracts import DecodedVideo
from service.errors import DeadlineExceeded, VideoError, VidtrError
from service.telemetry import metrics
from service.video.pool import DecodePool, DecodeSlot
from service.video.progress import Progress


class UploadDecoder:
    """Decodes what a submission has sent, and charges callers for the time of what cannot be decoded."""

    def __init__(self, pool: DecodePool, auth: Authenticator) -> None:
        self._pool = pool
        self._auth = auth

    async def decoded(
        self, submission: Submission, admitted: Admitted, spool: Spool, staging: Staging | None = None
    ) -> DecodedVideo:
        """What is found in the spooled upload; with `staging` its clips go on while it is decoded.

        Raises DeadlineExceeded, and what `DecodeSlot.decode` and the staging raise.
        """
        submission.phases.begin("decode")
        with metrics.stage("decode"), metrics.DECODES_IN_PROGRESS.track_inprogress():
            decoded = await self._decode(submission, admitted, spool, staging)
        metrics.FRAMES_DECODED.inc(decoded.video.frames_decoded)
        submission.phases.begin("enqueue")
        return decoded

    async def _decode(
        self, submission: Submission, admitted: Admitted, spool: Spool, staging: Staging | None
    ) -> DecodedVideo:
        try:
            async with (
                asyncio.timeout(submission.left_s),
                self._pool.slot(admitted.reservation.job_class, submission.caller.identity) as slot,
            ):
                progress = None if staging is None else staging.progress
                decoding = self._decode_in(slot, submission, admitted, spool, progress)
                decoded = await (decoding if staging is None else staging.decode(decoding))
                return decoded if spool.source is None else decoded.model_copy(update={"source": spool.source.read})
        except TimeoutError as error:
            deadline_s = submission.wait_policy.deadline_s
            detail = f"The job's deadline of {deadline_s:g} s passed before its video was decoded."
            raise DeadlineExceeded(detail, limit=deadline_s) from error

    async def _decode_in(
        self, slot: DecodeSlot, submission: Submission, admitted: Admitted, spool: Spool, progress: Progress | None
    ) -> DecodedVideo:
        started = time.monotonic()
        try:
            return await slot.decode(
                spool.upload,
                spool.clips,
                admitted.spec.clip,
                submission.options,
                most_clips=admitted.most_views,
                job=submission.job_id,
                supply=spool.source,
                progress=progress,
            )
        except VidtrError as error:
            metrics.DECODE_FAILURES.labels(error.code).inc()
            if isinstance(error, VideoError):
                await self._auth.charge_failed(submission.caller, math.ceil(time.monotonic() - started))
            raise
