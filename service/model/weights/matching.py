"""A network takes a set of weights whole, or not at all."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from service.model.weights.checkpoint import CheckpointError

_NAMED = 12


class CheckpointMismatch(CheckpointError):
    """The weights have other names or shapes than the network."""


def assign_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy the weights into the network's parameters, in the parameters' own type.

    Raises CheckpointMismatch as `check_weights` does; the network is then unchanged.
    """
    check_weights(network.state_dict(), weights)
    network.load_state_dict(dict(weights))


def check_weights(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Compare names and shapes.

    Raises CheckpointMismatch naming the missing, extra and misshapen keys, or the first of them and how many follow.
    """
    problems = [
        *(f"missing {name} {_shape(expected[name])}" for name in expected if name not in found),
        *(f"extra {name} {_shape(found[name])}" for name in found if name not in expected),
        *(
            f"{name} is {_shape(found[name])}, expected {_shape(tensor)}"
            for name, tensor in expected.items()
            if name in found and found[name].shape != tensor.shape
        ),
        *(
            f"{name} holds {str(found[name].dtype).removeprefix('torch.')}, expected floating-point numbers"
            for name in expected
            if name in found and not found[name].is_floating_point()
        ),
    ]
    if problems:
        more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        raise CheckpointMismatch(f"weights do not fit the network: {'; '.join(problems[:_NAMED])}{more}")


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))
