"""A network of another library at the size that it was published with."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from service.foreign_models.foreign_import import ForeignImport, import_foreign
from service.inference.torchscript import TorchScriptBackend, TorchScriptConfig
from tests.fixtures.foreign_models import EXTRAS, TORCHVISION, full_size_mvit, quiet

pytestmark = [
    *EXTRAS,
    pytest.mark.slow,
    TORCHVISION,
    pytest.mark.skipif("VIDTR_FOREIGN_FULL" not in os.environ, reason="takes 2 GB of memory: `make test-full` runs it"),
]


async def test_mvit_v2_s_at_its_full_size_gives_the_logits_of_the_library(tmp_path: Path) -> None:
    foreign = full_size_mvit(tmp_path)
    with quiet():
        import_foreign(ForeignImport(foreign.source, foreign.path, "mvit", values=foreign.values), tmp_path / "models")
    backend = TorchScriptBackend(TorchScriptConfig(tmp_path / "models"))
    await backend.start()
    try:
        [spec] = await backend.models()
        clips = np.random.default_rng(1).integers(0, 256, (1, *spec.clip_shape), dtype=np.uint8)
        ours = (await backend.infer(spec.name, spec.version, clips)).logits
    finally:
        await backend.close()
    assert spec.clip_shape == (16, 224, 224, 3)
    np.testing.assert_allclose(ours, foreign.logits(clips), atol=1e-4, rtol=0)
