"""How far the attention of the models that gave answers can be believed."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import httpx

from service.cli.answers import Answer
from service.cli.engines import Engine
from service.errors import VidtrError


def attention_notes(run: Engine, answers: Iterable[Answer]) -> list[str]:
    """What is known of the attention in the answers, a sentence for each model that was measured."""
    models = {
        answer.result.model.model_dump_json(): answer.result.model
        for answer in answers
        if answer.result is not None and any(window.attention for window in answer.result.windows)
    }
    said = []
    for ref in models.values():
        # The answers are there, whatever becomes of the server.
        with suppress(VidtrError, httpx.TransportError):
            if (found := run.model(ref).faithfulness) is not None:
                whose = f"{ref.name}, version {ref.version}: " if len(models) > 1 else ""
                said.append(f"{whose}{found.in_words}")
    return said
