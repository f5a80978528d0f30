"""Options that several commands share, gathered before a command sees them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any


def takes_options(
    command: Callable[..., None],
    options: Mapping[str, Any],
    gather: Callable[[dict[str, Any]], dict[str, Any]],
    replaced: Collection[str],
    defaults: Mapping[str, Any] = {},
) -> Callable[..., None]:
    """`command` with `options`, annotations by name, instead of its parameters of the names `replaced`.

    `gather` makes arguments for those of the options' values, which are None by default or what `defaults` says.
    """
    signature = inspect.signature(command, eval_str=True)
    own = [parameter for name, parameter in signature.parameters.items() if name not in replaced]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=defaults.get(name), annotation=annotation)
        for name, annotation in options.items()
    ]

    @functools.wraps(command)
    def run(**arguments: Any) -> None:
        given = {name: arguments.pop(name) for name in options}
        wanted = {name: value for name, value in gather(given).items() if name in signature.parameters}
        command(**arguments, **wanted)

    run.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
    return run
