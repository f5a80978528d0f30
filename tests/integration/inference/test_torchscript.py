import asyncio
import hashlib
import shutil
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import torch

from service.errors import BackendFailed, BackendUnavailable
from service.inference import torchscript
from service.inference.torchscript import TorchScriptBackend, TorchScriptConfig
from service.model_config import ModelConfigError
from tests.fixtures.tiny_models import (
    BUSY,
    CLIP_SHAPE,
    FRAMES,
    LABELS,
    LAYERS,
    MAX_BATCH_SIZE,
    NOT_A_NUMBER,
    RAISE,
    TinyNetwork,
    config_text,
    random_clips,
    save_network,
    write_repository,
)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    return write_repository(root, versions=("2", "10"), extra="version_policy { all { } }")


@pytest.fixture
async def backend(repository: Path) -> AsyncIterator[TorchScriptBackend]:
    backend = TorchScriptBackend(TorchScriptConfig(repository, threads=1))
    await backend.start()
    yield backend
    await backend.close()


def eager(seed: int, clips: np.ndarray) -> list[np.ndarray]:
    torch.manual_seed(seed)
    network = TinyNetwork().eval()
    with torch.inference_mode():
        return [output.numpy() for output in network(torch.from_numpy(clips))]


async def test_models_are_listed_in_the_order_of_version_numbers(backend: TorchScriptBackend) -> None:
    assert [(spec.name, spec.version) for spec in await backend.models()] == [("tiny", "2"), ("tiny", "10")]


@pytest.mark.parametrize("batch", range(1, MAX_BATCH_SIZE + 1))
async def test_scores_have_the_documented_shapes(backend: TorchScriptBackend, batch: int) -> None:
    scores = await backend.infer("tiny", "2", random_clips(batch))

    assert scores.logits.shape == (batch, len(LABELS))
    assert scores.temporal_attention.shape == (batch, FRAMES)
    assert scores.layer_attention.shape == scores.layer_retention.shape == (batch, LAYERS, FRAMES)
    assert scores.logits.dtype == scores.layer_retention.dtype == np.float32


@pytest.mark.parametrize("version", ["2", "10"])
async def test_scores_are_those_of_the_eager_network_of_that_version(backend: TorchScriptBackend, version: str) -> None:
    clips = random_clips(3)

    scores = await backend.infer("tiny", version, clips)

    logits, temporal, layers, retention = eager(int(version), clips)
    np.testing.assert_allclose(scores.logits, logits, atol=1e-5)
    np.testing.assert_allclose(scores.temporal_attention, temporal, atol=1e-6)
    np.testing.assert_allclose(scores.layer_attention, layers, atol=1e-6)
    np.testing.assert_allclose(scores.layer_retention, retention)


async def test_a_clip_scores_the_same_alone_and_in_a_batch(backend: TorchScriptBackend) -> None:
    clips = random_clips(4)

    together = await backend.infer("tiny", "2", clips)
    alone = await backend.infer("tiny", "2", clips[2:3])

    np.testing.assert_allclose(together.logits[2], alone.logits[0], atol=1e-5)


async def test_clips_that_view_received_bytes_are_accepted(backend: TorchScriptBackend) -> None:
    clips = random_clips(2)
    received = np.frombuffer(clips.tobytes(), np.uint8).reshape(clips.shape)

    scores = await backend.infer("tiny", "2", received)

    np.testing.assert_array_equal(scores.logits, (await backend.infer("tiny", "2", clips)).logits)


@pytest.mark.parametrize(
    "shape",
    [
        CLIP_SHAPE,
        (1, FRAMES + 1, *CLIP_SHAPE[1:]),
        (1, FRAMES, 3, *CLIP_SHAPE[1:3]),
        (0, *CLIP_SHAPE),
    ],
)
async def test_clips_of_another_shape_fail(backend: TorchScriptBackend, shape: tuple[int, ...]) -> None:
    with pytest.raises(BackendFailed, match="takes"):
        await backend.infer("tiny", "2", np.zeros(shape, np.uint8))


async def test_clips_of_another_dtype_fail(backend: TorchScriptBackend) -> None:
    with pytest.raises(BackendFailed, match="takes uint8 clips, not float32"):
        await backend.infer("tiny", "2", random_clips(1).astype(np.float32))


async def test_more_clips_than_the_batch_size_fail_with_the_limit(backend: TorchScriptBackend) -> None:
    with pytest.raises(BackendFailed) as caught:
        await backend.infer("tiny", "2", random_clips(MAX_BATCH_SIZE + 1))

    assert (caught.value.limit, caught.value.actual) == (MAX_BATCH_SIZE, MAX_BATCH_SIZE + 1)


@pytest.mark.parametrize(("model", "version"), [("unknown", "2"), ("tiny", "1")])
async def test_a_model_or_version_that_is_not_served_fails(
    backend: TorchScriptBackend, model: str, version: str
) -> None:
    with pytest.raises(BackendFailed, match="is not served"):
        await backend.infer(model, version, random_clips(1))


async def test_an_exception_of_the_network_fails_the_call_in_one_line(backend: TorchScriptBackend) -> None:
    with pytest.raises(BackendFailed, match="the clip asked for an exception") as caught:
        await backend.infer("tiny", "2", random_clips(1, command=RAISE))

    assert "\n" not in caught.value.detail


async def test_the_backend_goes_on_after_a_failure(backend: TorchScriptBackend) -> None:
    with pytest.raises(BackendFailed):
        await backend.infer("tiny", "2", random_clips(1, command=RAISE))

    assert (await backend.infer("tiny", "2", random_clips(1))).logits.shape == (1, len(LABELS))


async def test_scores_that_are_no_numbers_fail(backend: TorchScriptBackend) -> None:
    with pytest.raises(BackendFailed, match="output 'logits' holds NaN"):
        await backend.infer("tiny", "2", random_clips(1, command=NOT_A_NUMBER))


async def test_a_brief_forward_runs_where_it_is_called(backend: TorchScriptBackend) -> None:
    with pytest.raises(StopIteration):
        backend.infer("tiny", "2", random_clips(1)).send(None)


async def test_a_brief_forward_comes_after_a_longer_one_that_has_begun(
    backend: TorchScriptBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []

    async def ran(name: str, clips: np.ndarray) -> None:
        await backend.infer("tiny", "2", clips)
        ended.append(name)

    monkeypatch.setattr(torchscript, "_BRIEF_S", 0.0)
    long = asyncio.create_task(ran("long", random_clips(1, command=BUSY)))
    await asyncio.sleep(0)
    monkeypatch.undo()
    await asyncio.gather(ran("brief", random_clips(1)), long)

    assert ended == ["long", "brief"]


async def test_the_event_loop_runs_while_a_network_computes_for_longer(
    backend: TorchScriptBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchscript, "_BRIEF_S", 0.0)
    slow = asyncio.create_task(backend.infer("tiny", "2", random_clips(1, command=BUSY)))
    turns = 0
    while not slow.done():
        await asyncio.sleep(0.01)
        turns += 1

    assert turns > 1
    assert slow.exception() is None


async def test_the_thread_settings_of_other_threads_stay_as_they_are(repository: Path) -> None:
    before = torch.get_num_threads()
    backend = TorchScriptBackend(TorchScriptConfig(repository, threads=before + 1))
    await backend.start()
    await backend.close()

    assert torch.get_num_threads() == before


async def test_calls_before_the_start_are_unavailable(repository: Path) -> None:
    with pytest.raises(BackendUnavailable):
        await TorchScriptBackend(TorchScriptConfig(repository)).models()


async def test_calls_after_closing_are_unavailable(repository: Path) -> None:
    backend = TorchScriptBackend(TorchScriptConfig(repository, threads=1))
    await backend.start()
    await backend.close()

    with pytest.raises(BackendUnavailable):
        await backend.infer("tiny", "2", random_clips(1))


async def test_closing_twice_is_harmless(repository: Path) -> None:
    backend = TorchScriptBackend(TorchScriptConfig(repository, threads=1))
    await backend.start()
    await backend.close()
    await backend.close()

    assert not [thread for thread in threading.enumerate() if thread.name.startswith("torchscript")]


async def test_a_file_that_is_no_torchscript_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "tiny" / "1").mkdir(parents=True)
    (tmp_path / "tiny" / "1" / "model.pt").write_bytes(b"nonsense")
    digest = hashlib.sha256(b"nonsense").hexdigest()
    (tmp_path / "tiny" / "config.pbtxt").write_text(config_text("tiny", {"1": digest}))

    with pytest.raises(ModelConfigError, match=r"file 1/model\.pt is not loadable"):
        await TorchScriptBackend(TorchScriptConfig(tmp_path, threads=1)).start()


async def test_a_network_with_other_outputs_than_configured_stops_the_start(tmp_path: Path) -> None:
    digest = save_network(tmp_path / "tiny" / "1" / "model.pt")
    text = config_text("tiny", {"1": digest}).replace("[2, 4]", "[3, 4]")
    (tmp_path / "tiny" / "config.pbtxt").write_text(text)

    with pytest.raises(BackendFailed, match=r"output 'layer_attention' is float32 \[1, 2, 4\]"):
        await TorchScriptBackend(TorchScriptConfig(tmp_path, threads=1)).start()


async def test_a_failed_start_leaves_no_thread_behind(tmp_path: Path) -> None:
    write_repository(tmp_path)
    shutil.rmtree(tmp_path / "tiny" / "1")

    with pytest.raises(ModelConfigError):
        await TorchScriptBackend(TorchScriptConfig(tmp_path, threads=1)).start()

    assert not [thread for thread in threading.enumerate() if thread.name.startswith("torchscript")]
