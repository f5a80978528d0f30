"""Clips that reach a Triton on the same host through shared memory instead of the connection."""

from __future__ import annotations

import asyncio
import logging
import mmap
import os
import socket
from pathlib import Path
from uuid import uuid4

import numpy as np
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from service.inference.backend import Clips

logger = logging.getLogger(__name__)

SHM = Path("/dev/shm")  # noqa: S108 - not for temporary files

# Of a call that names a region which the server does not know: it has restarted since.
UNKNOWN_REGION = "shared memory region"

# A request lets go of its region only after it was answered, and one that was given up when it has been computed: until
# then Triton refuses to unregister it.
_IN_USE = "currently in use"
_IN_USE_LIMIT_S = 10.0
_IN_USE_RETRY_S = 0.02

_HOST = f"vidtr-{socket.gethostname()}-"
# Of this process among all that had its number, as every first process of a container has.
_LIFE = uuid4().hex[:8]


class Slot:
    """Memory for one batch at a time, in which clips lie uint8 and in C order.

    Its name in `/dev/shm` is there only until Triton has opened it, so that a killed worker leaves nothing behind:
    that is why the Triton client's own helpers are not used, and they let no other user than this one open it either.
    """

    def __init__(self, name: str, size: int) -> None:
        """Raises OSError where `/dev/shm` has no room, or does not exist."""
        self.name = name
        self.size = size
        self._path = SHM / f"vidtr-{uuid4().hex}"
        descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        try:
            # Triton is another user, in another container.
            os.fchmod(descriptor, 0o666)
            # Without it a full /dev/shm would kill the process at the first write.
            os.posix_fallocate(descriptor, 0, size)
            self._memory = mmap.mmap(descriptor, size)
        except BaseException:
            self._path.unlink()
            raise
        finally:
            os.close(descriptor)

    @property
    def key(self) -> str:
        """The name by which another process opens the memory."""
        return f"/{self._path.name}"

    def write(self, clips: Clips) -> None:
        """Copy at most `size` bytes of clips to the beginning of the memory."""
        np.copyto(np.ndarray(clips.shape, np.uint8, buffer=self._memory), clips)

    def unlink(self) -> None:
        """Take the name away; the memory lives as long as somebody has it open."""
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the memory."""
        self.unlink()
        self._memory.close()


class SharedInputs:
    """The slots of one worker in one Triton server. One call has a slot to itself; slots are registered once.

    A call that was given up may still be computed while its slot is rewritten: its answer is dropped.
    """

    def __init__(self) -> None:
        self._slots: list[Slot] = []
        self._free: list[Slot] = []
        # Names that the server may still have: it did not say in time, or was reading them.
        self._doubtful: list[str] = []
        self._refused = False
        self._swept = False

    async def take(self, client: InferenceServerClient, clips: Clips, size: int, timeout_s: float) -> Slot | None:
        """A slot that holds the clips, of `size` bytes where it is new; None where they must be sent instead.

        Raises what the client raises when the server does not answer.
        """
        if self._refused or clips.nbytes > size:
            return None
        fitting = [slot for slot in self._free if slot.size >= clips.nbytes]
        if fitting:
            slot = min(fitting, key=lambda slot: slot.size)
            self._free.remove(slot)
        else:
            made = await self._new(client, size, timeout_s)
            if made is None:
                return None
            slot = made
        slot.write(clips)
        return slot

    def give_back(self, slot: Slot) -> None:
        """The call is over."""
        if slot in self._slots:
            self._free.append(slot)

    def forget_all(self) -> None:
        """The server has restarted: it knows none of the slots."""
        for slot in self._free:
            slot.close()
        # Those of calls in flight are let go of when nothing refers to them any more.
        self._slots, self._free = [], []

    async def close(self, client: InferenceServerClient, timeout_s: float) -> None:
        """Unregister all slots, where the server still answers; those that it reads when it has read them."""
        names = [*(slot.name for slot in self._free), *self._doubtful]
        end = asyncio.get_running_loop().time() + _IN_USE_LIMIT_S
        while True:
            gone = await asyncio.gather(*(self._unregister(client, name, timeout_s) for name in names))
            names = [name for name, done in zip(names, gone, strict=True) if not done]
            if not names or asyncio.get_running_loop().time() >= end:
                break
            await asyncio.sleep(_IN_USE_RETRY_S)
        self.forget_all()

    async def _new(self, client: InferenceServerClient, size: int, timeout_s: float) -> Slot | None:
        if not self._swept:
            await self._sweep(client, timeout_s)
            self._swept = True
        await self._settle(client, timeout_s)
        try:
            slot = Slot(f"{_HOST}{os.getpid()}-{_LIFE}-{uuid4().hex}", size)
        except OSError as error:
            self._refuse(f"{SHM}: {error.strerror}")
            return None
        try:
            await client.register_system_shared_memory(slot.name, slot.key, size, client_timeout=timeout_s)
        except InferenceServerException as error:
            slot.close()
            # A server that was not started with --allow-client-shm is also "unavailable", but it is ready.
            if await _away(client, error, timeout_s):
                self._doubtful.append(slot.name)
                raise
            self._refuse(f"Triton says: {error.message()}")
            return None
        slot.unlink()
        self._slots.append(slot)
        return slot

    async def _sweep(self, client: InferenceServerClient, timeout_s: float) -> None:
        """Unregister what workers of this host, that were killed, have left registered."""
        try:
            regions = (await client.get_system_shared_memory_status(client_timeout=timeout_s)).regions
        except InferenceServerException:
            return  # registering will say what is wrong
        for name in regions:
            pid, _, rest = name.removeprefix(_HOST).partition("-")
            if name.startswith(_HOST) and pid.isdigit() and not _lives(int(pid), rest.partition("-")[0]):
                self._doubtful.append(name)

    async def _settle(self, client: InferenceServerClient, timeout_s: float) -> None:
        names, self._doubtful = self._doubtful, []
        for name in names:
            if not await self._unregister(client, name, timeout_s):
                self._doubtful.append(name)

    @staticmethod
    async def _unregister(client: InferenceServerClient, name: str, timeout_s: float) -> bool:
        """False where the server still reads the region."""
        try:
            await client.unregister_system_shared_memory(name, client_timeout=timeout_s)
        except InferenceServerException as error:
            logger.debug("Triton does not unregister %s: %s", name, error.message())
            return _IN_USE not in error.message()
        return True

    def _refuse(self, why: str) -> None:
        self._refused = True
        logger.warning("shared memory cannot be used, clips are sent over the connection: %s", why)


async def _away(client: InferenceServerClient, error: InferenceServerException, timeout_s: float) -> bool:
    status = str(error.status() or "").removeprefix("StatusCode.")
    if status != "UNAVAILABLE":
        return status in ("DEADLINE_EXCEEDED", "CANCELLED")
    try:
        return not await client.is_server_ready(client_timeout=timeout_s)
    except InferenceServerException:
        return True


def _lives(pid: int, life: str) -> bool:
    if pid == os.getpid():
        return life == _LIFE
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
