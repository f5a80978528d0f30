"""The options of commands that write how Triton serves a model, parsed into one `TritonOptions`.

`--device gpu` changes the defaults of the others, also of those that a command reads itself: it gets the device too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Literal

import typer

from service.cli.gathered_options import takes_options
from service.model.triton_options import ON_GPU, TritonOptions

Device = Literal["any", "gpu"]
_OPTIONS: dict[str, Any] = {
    "device": Annotated[
        Device, typer.Option(help="What the model is to run on: any, or gpu, with other defaults for all options.")
    ],
    "instances": Annotated[int | None, typer.Option(min=1, help="Copies of the network, on each GPU or on the CPU.")],
    "instance_kind": Annotated[str | None, typer.Option(help="Where they run: auto, cpu or gpu.")],
    "gpus": Annotated[str | None, typer.Option(help="Numbers of the GPUs to use, such as 0,1; all by default.")],
    "queue_size": Annotated[int | None, typer.Option(min=0, help="Requests that may wait in Triton; 0 for no limit.")],
    "queue_timeout_ms": Annotated[
        int | None, typer.Option(min=0, help="Milliseconds that a request may wait in Triton; 0 for no limit.")
    ],
    "batch_delay_ms": Annotated[
        float | None, typer.Option(min=0, help="Milliseconds that a request waits to share a batch.")
    ],
    "preferred_batches": Annotated[str | None, typer.Option(help="Batch sizes that cut the delay short, such as 4,8.")],
    "threads": Annotated[int | None, typer.Option(min=1, help="CPU threads of one forward.")],
    "versions": Annotated[str | None, typer.Option(help="Versions served: latest:N, all, or numbers such as 1,3.")],
}


def takes_triton_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `TritonOptions`; it gets them as its argument `triton`, and `device` if it has one.

    `triton` is None where none of them was given and the device is any. One that cannot work ends the command with a
    usage error.
    """

    def gather(given: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"triton": _triton_options(given), "device": given["device"]}
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error

    return takes_options(command, _OPTIONS, gather, ["triton", "device"], {"device": "any"})


def _triton_options(options: dict[str, Any]) -> TritonOptions | None:
    """The options that were given, the others at their defaults; None where none was given. Raises ValueError."""
    given = {name: value for name, value in options.items() if value is not None and name != "device"}
    for name in given.keys() & {"gpus", "preferred_batches"}:
        given[name] = _numbers(name, given[name])
    kind = given.pop("instance_kind", None)
    if kind not in (None, "auto", "cpu", "gpu"):
        raise ValueError(f"--instance-kind must be auto, cpu or gpu, not {kind!r}.")
    if kind is not None:
        given["kind"] = kind
    if options["device"] == "gpu":
        if given.get("kind", "gpu") != "gpu":
            raise ValueError(f"--device gpu cannot have --instance-kind {kind}.")
        return replace(ON_GPU, **given)
    return TritonOptions(**given) if given else None


def _numbers(name: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        flag = f"--{name.replace('_', '-')}"
        raise ValueError(f"{flag} must be numbers separated by commas, not {text!r}.") from None
