"""The shared memory between a local Triton and the processes that run its models."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from service.inference.shared_memory import SHM

REGION_BYTES = 32 * 2**20
"""of each model instance: room for a batch of 16 clips of full size with its answers"""
_ROOM_FOR_REGIONS = 16
_SCARCE_BYTES = 16 * 2**20
"""below this a server that does not start may lack room for regions as small as Triton makes them"""


@dataclass(frozen=True, slots=True)
class SharedRegions:
    """The regions of one server: their names begin with `prefix`, which no other server has."""

    prefix: str
    folder: Path = SHM

    def options(self) -> list[str]:
        """Options of Triton's Python backend.

        A region that grows is mapped anew by both sides, and the old mappings stay: it has what a batch needs from the
        start. Where shared memory is scarce, as in a container with Docker's 64 MB, it begins small, since a server
        that starts is better.
        """
        options = [f"shm-region-prefix-name={self.prefix}"]
        if self.folder.is_dir() and shutil.disk_usage(self.folder).free >= _ROOM_FOR_REGIONS * REGION_BYTES:
            options.append(f"shm-default-byte-size={REGION_BYTES}")
        return options

    def shortage(self) -> str:
        """A sentence on how little shared memory is left, for the error of a server that does not start; else empty.

        Triton itself says no more than that its models do not load.
        """
        if not self.folder.is_dir() or (free := shutil.disk_usage(self.folder).free) >= _SCARCE_BYTES:
            return ""
        return (
            f"{self.folder} has {free / 2**20:.1f} MiB free, which may be too little for the models: give it 64 MiB or "
            "more (`--shm-size` of a container)"
        )

    def remove(self) -> None:
        """Remove what a server that was killed has left: it would stay, and take memory, until the next boot."""
        for region in self.folder.glob(f"{self.prefix}*"):
            region.unlink(missing_ok=True)
