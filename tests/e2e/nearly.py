"""Answers of two jobs side by side."""

from typing import Any

import pytest


def nearly(answer: Any) -> Any:
    """Equals the same answer from another job: clips of batches of other sizes differ in the last digits."""
    if isinstance(answer, dict):
        return {name: nearly(value) for name, value in answer.items()}
    if isinstance(answer, list):
        return [nearly(value) for value in answer]
    return pytest.approx(answer, abs=1e-5) if isinstance(answer, float) else answer
