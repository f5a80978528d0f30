"""`vidtr api` with decode processes of another making: `python -m tests.e2e.altered_api MODULE:FUNCTION [ARGUMENT…]`.

The function replaces `service.video.forkserver_main.prepare_decoder`, with the arguments before its own. The program
is otherwise the one that users run, in a process of its own.
"""

from __future__ import annotations

import functools
import importlib
import sys

import service.video.pool
from service.cli.process_commands import api

if __name__ == "__main__":
    module, _, name = sys.argv[1].partition(":")
    prepare = functools.partial(getattr(importlib.import_module(module), name), *sys.argv[2:])
    service.video.pool.prepare_decoder = prepare  # type: ignore[attr-defined]
    api()
