import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from testing.program import Program, command_line, upload


@pytest.fixture(scope="module")
def triton_program(triton_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    program = Program(
        tmp_path_factory.mktemp("triton"), "--engine", "triton", VIDTR_TRITON_DIR=str(triton_directory.resolve())
    )
    with program:
        yield program


def test_triton_gives_the_answers_of_the_engine_in_process(
    triton_program: Program, client: httpx.Client, clip: Path
) -> None:
    with triton_program.client() as triton:
        theirs = upload(triton, clip, top_k=12, attention="layers").json()
    ours = upload(client, clip, top_k=12, attention="layers").json()
    assert any("tritonserver" in " ".join(command_line(p)) for p in triton_program.descendants)
    assert theirs["model"] == ours["model"]

    def numbers(answer: dict[str, object]) -> list[float]:
        found: list[float] = []
        json.loads(json.dumps(answer["windows"]), parse_float=lambda text: found.append(float(text)))
        return found

    np.testing.assert_allclose(numbers(theirs), numbers(ours), atol=1e-4)
