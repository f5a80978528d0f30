"""What the end of a decode process means to the caller."""

from __future__ import annotations

import signal

from service.errors import DecodeCpuLimit, DecoderCrash, VidtrError
from service.video.config import DecodeConfig


def exit_error(exitcode: int, config: DecodeConfig, cpu_s: float | None = None) -> VidtrError:
    """The error of a decode whose process ended with `exitcode`, negative for a signal, after `cpu_s` CPU seconds."""
    if exitcode == -signal.SIGXCPU:
        limit = config.decode_cpu_s
        if cpu_s is None:
            return DecodeCpuLimit(f"Decoding used more than {limit} CPU seconds.", limit=limit)
        used = round(cpu_s, 1)
        return DecodeCpuLimit(
            f"Decoding was stopped after {used:g} CPU seconds; the limit is {limit}.", limit=limit, actual=used
        )
    if exitcode < 0:
        name = signal.Signals(-exitcode).name
        return DecoderCrash(f"The decode process was ended by {name}.", actual=name)
    return DecoderCrash(f"The decode process ended with code {exitcode}.", actual=exitcode)
