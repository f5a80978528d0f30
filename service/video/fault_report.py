"""Tracebacks as the log of a sandbox worker takes them: one line, of which the end, with the cause, is kept."""

from __future__ import annotations

import sys
import traceback

# A line of the log keeps 2000 characters.
_CHARACTERS = 1900


def report_fault(error: BaseException) -> None:
    """Write the traceback of `error` to where the log of a sandbox worker is taken from, the cause last."""
    line = " | ".join("".join(traceback.format_exception(error)).split("\n"))[-_CHARACTERS:]
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
