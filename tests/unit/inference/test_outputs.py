"""What a server's outputs are checked for."""

from __future__ import annotations

import numpy as np
import pytest

from service.errors import BackendFailed
from service.inference.backend import checked_scores
from testing.factories import spec


def test_an_answer_without_one_of_the_outputs_fails_with_its_name() -> None:
    model = spec()
    outputs = {name: np.zeros((2, *shape), np.float32) for name, shape in model.outputs.items()}
    assert checked_scores(model, outputs, 2).logits.shape == (2, *model.outputs["logits"])
    with pytest.raises(BackendFailed, match="output 'logits' is not in the answer"):
        checked_scores(model, {**outputs, "logits": None}, 2)
