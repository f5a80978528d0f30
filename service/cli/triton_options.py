"""Options that say how Triton serves a model, for the commands that write its `config.pbtxt`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from service.model.triton_options import TritonOptions

Instances = Annotated[int | None, typer.Option(min=1, help="Copies of the network, on each GPU or on the CPU.")]
InstanceKind = Annotated[str | None, typer.Option(help="Where they run: auto, cpu or gpu.")]
Gpus = Annotated[str | None, typer.Option(help="Numbers of the GPUs to use, such as 0,1; all by default.")]
QueueSize = Annotated[int | None, typer.Option(min=0, help="Requests that may wait in Triton; 0 for no limit.")]
QueueTimeoutMs = Annotated[
    int | None, typer.Option(min=0, help="Milliseconds that a request may wait in Triton; 0 for no limit.")
]
BatchDelayMs = Annotated[float | None, typer.Option(min=0, help="Milliseconds that a request waits to share a batch.")]
PreferredBatches = Annotated[str | None, typer.Option(help="Batch sizes that cut the delay short, such as 4,8.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads of one forward.")]
Versions = Annotated[str | None, typer.Option(help="Versions served: latest:N, all, or numbers such as 1,3.")]


def serving_of(**options: Any) -> TritonOptions | None:
    """The options that were given, the others at their defaults; None where none was given. Raises ValueError."""
    from service.model.triton_options import TritonOptions

    given = {name: value for name, value in options.items() if value is not None}
    for name in ("gpus", "preferred_batches"):
        if name in given:
            given[name] = _numbers(name, given[name])
    if given.get("kind", "auto") not in ("auto", "cpu", "gpu"):
        raise ValueError(f"--instance-kind must be auto, cpu or gpu, not {given['kind']!r}")
    return TritonOptions(**given) if given else None


def _numbers(name: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{name} must be numbers with commas between them, not {text!r}") from None
