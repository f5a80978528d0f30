"""Linear maps in int8: near to float32, and the same for a clip whatever stands beside it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from service.inference.arithmetic import CpuArithmetic, forward_in
from service.inference.cpu import Forward
from service.inference.int8 import FEWEST, in_int8, quantized
from service.inference.torchscript_archive import load_archive
from service.model.presets import export_preset
from service.reference_clips import reference_clips
from tests.fixtures.counting_module import Counter

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")

NAME = "untrained_tiny"
WIDE_SUMS = CpuArithmetic.of_this_machine().int8


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_preset(NAME, tmp_path_factory.mktemp("models")) / "1" / "model.pt"


def some_clips(count: int) -> Tensor:
    return torch.randint(0, 256, (count, 8, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def outputs(forward: Forward, clips: Tensor) -> tuple[Tensor, ...]:
    with torch.inference_mode():
        found: tuple[Tensor, ...] = forward(clips)
    return found


def test_a_network_in_int8_scores_nearly_as_in_float32(path: Path) -> None:
    clips = torch.from_numpy(reference_clips((8, 64, 64, 3)))
    fine = outputs(load_archive(path), clips)[0]
    coarse = outputs(in_int8(load_archive(path), wide_sums=WIDE_SUMS), clips)[0]
    assert 0 < float((coarse - fine).abs().max()) < 0.1 * float(fine.std())


@pytest.mark.parametrize("size", [1, 2, 5])
def test_the_scores_of_a_clip_are_the_same_in_every_batch(path: Path, size: int) -> None:
    clips = some_clips(5)
    forward = forward_in("int8", load_archive(path), wide_sums=WIDE_SUMS)
    order = torch.randperm(5, generator=torch.Generator().manual_seed(size))
    alone = [outputs(forward, clip) for clip in clips.split(1)]
    for places in order.split(size):
        for row, place in enumerate(places):
            for beside, by_itself in zip(outputs(forward, clips[places]), alone[place], strict=True):
                assert torch.equal(beside[row], by_itself[0])


class Map(nn.Module):
    """A map after the one that counts as the patch embedding, which stays as it is."""

    def __init__(self, n: int = FEWEST, *, bias: bool = True, relu: bool = False) -> None:
        super().__init__()
        self.embed = nn.Linear(32, 32, bias=False)
        nn.init.eye_(self.embed.weight)
        self.linear = nn.Linear(32, n, bias=bias)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(self.embed(x))
        return torch.relu(y) if self.relu else y


def by_hand(module: Map, x: Tensor) -> Tensor:
    """The definition, in float64."""
    values, scales = quantized(module.linear.weight.detach())
    step = x.abs().amax(-1, keepdim=True).clamp(min=1e-12) / 127
    tokens = torch.floor(x / step + 0.5)
    y = (tokens.double() @ values.double().t()) * scales.double() * step.double()
    y = y if module.linear.bias is None else y + module.linear.bias.detach().double()
    return (y.relu() if module.relu else y).float()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("relu", [True, False])
def test_a_map_computes_what_is_written_of_it(bias: bool, relu: bool) -> None:
    torch.manual_seed(1)
    module = Map(bias=bias, relu=relu).eval()
    x = torch.randn(2, 5, 32) * torch.logspace(-3, 3, 5).unsqueeze(1)
    x[1, 2] = 0
    forward = in_int8(torch.jit.script(module), wide_sums=WIDE_SUMS)
    with torch.inference_mode():
        torch.testing.assert_close(forward(x), by_hand(module, x), atol=1e-4, rtol=1e-3)


def test_sums_that_would_fill_sixteen_bits_are_right() -> None:
    module = Map().eval()
    with torch.no_grad():
        module.linear.weight.fill_(1.0)
    x = torch.ones(1, 32)
    forward = in_int8(torch.jit.script(module), wide_sums=WIDE_SUMS)
    with torch.inference_mode():
        torch.testing.assert_close(forward(x), module(x), atol=1e-3, rtol=0)


def test_a_small_map_stays_in_float32() -> None:
    module = Map(FEWEST - 1).eval()
    x = torch.randn(3, 32)
    forward = in_int8(torch.jit.script(module), wide_sums=WIDE_SUMS)
    with torch.inference_mode():
        torch.testing.assert_close(forward(x), module(x))


def test_a_module_with_state_of_its_own_is_refused() -> None:
    with pytest.raises(RuntimeError, match="state of its own"):
        in_int8(torch.jit.script(Counter().eval()), wide_sums=WIDE_SUMS)


def test_weights_are_within_half_a_step_of_their_channel() -> None:
    weight = torch.randn(6, 32) * torch.logspace(-3, 2, 6).unsqueeze(1)
    weight[2] = 0
    values, scales = quantized(weight)
    error = (values * scales.unsqueeze(1) - weight).abs().amax(dim=1)
    assert torch.all(error <= weight.abs().amax(dim=1) / 127 * 0.501)


class AfterRelu(Map):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(torch.relu(2 * self.embed(x)))
        return y


def test_what_a_relu_gives_is_rounded_to_twice_as_many_steps() -> None:
    torch.manual_seed(2)
    module = AfterRelu(bias=False).eval()
    with torch.no_grad():
        module.linear.weight.copy_(torch.randint(-127, 128, (FEWEST, 32)))
        module.linear.weight[:, 0] = 127
    x = torch.randint(0, 256, (3, 32)).float()
    x[:, 0] = 255
    forward = in_int8(torch.jit.script(module), wide_sums=WIDE_SUMS)
    with torch.inference_mode():
        torch.testing.assert_close(forward(x), module(x), atol=0, rtol=1e-5)
