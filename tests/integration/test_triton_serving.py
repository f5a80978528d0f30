"""What `vidtr export` says of queues, instances and versions, to a real Triton."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2
from tritonclient.grpc.aio import InferenceServerClient

from service.errors import BackendUnavailable
from service.inference.backend import Scores
from service.inference.triton_backend import TritonBackend, TritonConfig
from service.local.triton_process import LocalTriton
from service.model.presets import export_preset
from service.model.triton_options import TritonOptions
from tests.fixtures.tiny_models import BUSY, MAX_BATCH_SIZE, random_clips, write_repository


@contextmanager
def serving(triton_directory: Path, tmp_path: Path, block: TritonOptions) -> Iterator[LocalTriton]:
    repository = write_repository(tmp_path / "models", serving=block.block(MAX_BATCH_SIZE))
    with LocalTriton(triton_directory, repository, log=tmp_path / "triton.log") as server:
        yield server


async def flood(server: LocalTriton, calls: int) -> tuple[list[Scores], list[str]]:
    """Send calls that each keep the network busy for long, all at once; the answers, and what refusals said."""
    backend = TritonBackend(TritonConfig(server.addresses.grpc))
    await backend.start()
    try:
        clips = [random_clips(MAX_BATCH_SIZE, seed, BUSY) for seed in range(calls)]
        ended = await asyncio.gather(*(backend.infer("tiny", "1", c) for c in clips), return_exceptions=True)
    finally:
        await backend.close()
    assert {type(other) for other in ended if not isinstance(other, Scores)} == {BackendUnavailable}
    refusals = [error.detail for error in ended if isinstance(error, BackendUnavailable)]
    return [scores for scores in ended if isinstance(scores, Scores)], refusals


async def test_a_request_beyond_the_queue_s_size_is_unavailable_and_the_others_are_answered(
    triton_directory: Path, tmp_path: Path
) -> None:
    with serving(triton_directory, tmp_path, TritonOptions(queue_size=1)) as server:
        answered, refused = await flood(server, 8)

    assert answered
    assert all(re.search("UNAVAILABLE.*Exceeds maximum queue size", detail) for detail in refused)


async def test_a_request_that_waits_beyond_the_queue_s_timeout_is_unavailable(
    triton_directory: Path, tmp_path: Path
) -> None:
    with serving(triton_directory, tmp_path, TritonOptions(queue_timeout_ms=1)) as server:
        answered, refused = await flood(server, 8)

    assert answered
    assert all(re.search("UNAVAILABLE.*timeout expired", detail) for detail in refused)


async def test_triton_takes_every_option_as_it_was_exported(triton_directory: Path, tmp_path: Path) -> None:
    options = TritonOptions(
        instances=2,
        kind="cpu",
        queue_size=5,
        queue_timeout_ms=2500,
        batch_delay_ms=1,
        preferred_batches=(2, 4),
        threads=1,
        versions="1",
    )
    folder = export_preset("untrained_tiny", tmp_path / "models", serving=options)
    written = text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    with LocalTriton(triton_directory, tmp_path / "models", log=tmp_path / "triton.log") as server:
        async with InferenceServerClient(server.addresses.grpc) as client:
            taken = (await client.get_model_config("untrained_tiny", "1")).config
    (group,) = taken.instance_group

    assert (group.kind, group.count) == (model_config_pb2.ModelInstanceGroup.KIND_CPU, 2)
    assert taken.dynamic_batching == written.dynamic_batching
    assert taken.version_policy == written.version_policy
    assert taken.parameters["INTRA_OP_THREAD_COUNT"].string_value == "1"
