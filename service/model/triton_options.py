"""How Triton runs a model: instances, queue, batches, threads and versions.

It is one block of lines in `config.pbtxt`, apart from what the network is, so that it can change while the network does
not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from service.contracts import Precision

Kind = Literal["auto", "cpu", "gpu"]

_BLOCK = re.compile(r"^version_policy .*?\n(?=model_warmup )", re.M | re.S)
_LATEST = re.compile(r"latest:([1-9]\d{0,2})")
_LIST = re.compile(r"[1-9]\d{0,17}(,[1-9]\d{0,17})*")


@dataclass(frozen=True, kw_only=True)
class TritonOptions:
    """What an operator may set. The defaults fit one worker in front of one Triton.

    Raises ValueError naming the field that cannot work.
    """

    instances: int = 1
    """copies of the network, on each GPU or on the CPU: as many batches run at a time"""
    kind: Kind = "auto"
    """`auto` takes GPUs where there are any"""
    gpus: tuple[int, ...] = ()
    """numbers of the GPUs to use; empty for all"""
    queue_size: int = 64
    """requests that may wait; more are refused as unavailable. 0 for no limit"""
    queue_timeout_ms: int = 30_000
    """longest that a request may wait; then it is refused as unavailable. 0 for no limit"""
    batch_delay_ms: float = 0.0
    """longest that a request waits for others to share its batch"""
    preferred_batches: tuple[int, ...] = ()
    """batch sizes for which the delay is cut short"""
    threads: int | None = None
    """CPU threads of one forward; None leaves it to PyTorch. The first model that Triton loads decides for all"""
    versions: str = "latest:2"
    """versions served: `latest:N`, `all`, or numbers such as `1,3`. One back, so that a roll-out can be compared and
    undone without touching the repository"""

    def __post_init__(self) -> None:
        for field, least in (("instances", 1), ("queue_size", 0), ("queue_timeout_ms", 0), ("batch_delay_ms", 0)):
            if getattr(self, field) < least:
                raise ValueError(f"{field} must be at least {least}, not {getattr(self, field)}")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads must be at least 1, not {self.threads}")
        if self.gpus and self.kind == "cpu":
            raise ValueError("gpus cannot be given for instances on the CPU")
        for name in ("gpus", "preferred_batches"):
            values = getattr(self, name)
            if len(set(values)) < len(values) or any(value < (name != "gpus") for value in values):
                raise ValueError(f"{name} must be numbers, each once, not {', '.join(map(str, values))}")
        if self.versions != "all" and not _LATEST.fullmatch(self.versions) and not _LIST.fullmatch(self.versions):
            raise ValueError(f"versions must be latest:N, all or numbers such as 1,3, not {self.versions!r}")

    def block(self, max_batch_size: int) -> str:
        """The lines of `config.pbtxt`. Raises ValueError where a preferred batch exceeds `max_batch_size`."""
        if too_large := [size for size in self.preferred_batches if size > max_batch_size]:
            raise ValueError(f"preferred_batches must be at most {max_batch_size}, the largest batch, not {too_large}")
        gpus = f" gpus: [ {', '.join(map(str, self.gpus))} ]" if self.gpus else ""
        lines = [
            f"version_policy {{ {self._policy()} }}",
            f"instance_group {{ kind: KIND_{self.kind.upper()} count: {self.instances}{gpus} }}",
            "dynamic_batching {",
        ]
        if self.preferred_batches:
            lines.append(f"  preferred_batch_size: [ {', '.join(map(str, self.preferred_batches))} ]")
        if self.batch_delay_ms:
            lines.append(f"  max_queue_delay_microseconds: {round(self.batch_delay_ms * 1000)}")
        lines += [
            "  default_queue_policy {",
            "    timeout_action: REJECT",
            f"    default_timeout_microseconds: {self.queue_timeout_ms * 1000}",
            "    allow_timeout_override: true",
            f"    max_queue_size: {self.queue_size}",
            "  }",
            "}",
        ]
        if self.threads is not None:
            lines.append(f'parameters {{ key: "INTRA_OP_THREAD_COUNT" value {{ string_value: "{self.threads}" }} }}')
        return "\n".join(lines) + "\n"

    def _policy(self) -> str:
        if self.versions == "all":
            return "all { }"
        if latest := _LATEST.fullmatch(self.versions):
            return f"latest {{ num_versions: {latest[1]} }}"
        return f"specific {{ versions: [ {self.versions.replace(',', ', ')} ] }}"


ON_GPU = TritonOptions(kind="gpu", instances=2, batch_delay_ms=2.0)
"""For a GPU behind several batches in flight. KIND_GPU: where the GPU is missing the model does not load, instead of
running on the CPU unnoticed. Two instances: one copies its batch while the other computes. The delay lets batches that
are not full meet; a full one does not wait."""
GPU_BATCH = 32
"""clips in one pass: from some dozens on the arithmetic of a clip outweighs the launches of its kernels"""
GPU_PRECISION: Precision = "bf16"
"""which every data-center GPU since Ampere multiplies several times as fast as fp32, in the range of fp32"""


def read_block(config: str) -> str:
    """The block in text that `triton_config` wrote, edited by hand or not. Raises ValueError where it has none."""
    found = _BLOCK.search(config)
    if found is None:
        raise ValueError("config.pbtxt has no lines from version_policy to model_warmup, as the exporter writes them")
    return found[0]


def with_block(config: str, block: str) -> str:
    """The text with another block. Raises ValueError where it has none."""
    return config.replace(read_block(config), block, 1)
