"""The processes of a run: how they find each other, and how they part."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING

import torch.distributed

from service.training.config import RunConfig

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def join_process_group(run: RunConfig) -> Fabric:
    """This process as one of those that `torchrun` started, or alone."""
    # It brings the compiler of torch along, seconds of imports that only a training needs.
    from lightning_fabric import Fabric

    processes, here = (int(os.environ.get(name, "1")) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    fabric = Fabric(
        accelerator=run.accelerator,
        devices=here,
        num_nodes=processes // here,
        strategy="ddp" if processes > 1 else "auto",
        precision=run.precision,
    )
    fabric.launch()
    return fabric


def leave_process_group() -> None:
    """End the threads that talk to the other processes; all that trained across them must be out of scope.

    A thread that releases a tensor while the interpreter shuts down aborts the process, and with it the run.
    After an error this is not to be called: the others may be waiting within a collective, and this would wait too.
    """
    if torch.distributed.is_initialized():
        gc.collect()
        torch.distributed.destroy_process_group()
