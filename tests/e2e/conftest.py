from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.program import Program
from tests.videos import write_video

WEBHOOK_SECRET = "whsec_" + 10 * "c2Vj"


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    program = Program(
        tmp_path_factory.mktemp("program"),
        VIDTR_MAX_UPLOAD_BYTES="20000000",
        VIDTR_WEBHOOK_SECRET=WEBHOOK_SECRET,
        VIDTR_WEBHOOK_PRIVATE_TARGETS="true",
    )
    try:
        program.start()
        yield program
    finally:
        program.stop()


@pytest.fixture
def client(program: Program) -> Iterator[httpx.Client]:
    with program.client() as client:
        yield client


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", 75, fps=25, size=(96, 64))
