"""Models and engines."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from service.contracts import EnginePrecision, ModelName
from service.settings.setting_types import CommaList

Engine = Literal["torchscript", "triton"]


class ModelSettings(BaseModel):
    """Models and engines."""

    model_repository: Path = Field(Path("model_repository"), description="Directory in Triton's repository layout.")
    default_model: ModelName = Field("camera_motion", description="Model of requests that name none.")
    engine: Engine = Field("torchscript", description="Where clips are scored.")
    engine_precision: EnginePrecision = Field(
        "fp32",
        description="Arithmetic of the in-process engine for models exported in `fp32`; `auto` takes `bf16` where the "
        "CPU multiplies it natively.",
    )
    torch_threads: int = Field(
        0, ge=0, description="Threads of one in-process forward; 0 takes as many as a model needs."
    )
    torchscript_operators: CommaList = Field(
        (), description="Operators that TorchScript files may use besides those that compute, such as `aten::rand`."
    )
    triton_url: str = Field(
        "127.0.0.1:8001", description="Address of Triton's gRPC endpoint; several, separated by commas, share the work."
    )
    triton_key: str | None = Field(
        None, pattern=r"^[A-Za-z0-9_-]{16,}$", description="Key that Triton requires; none is sent when unset."
    )
    triton_timeout_s: float = Field(30.0, gt=0, description="Longest one inference call to Triton may take.")
    triton_shared_memory: bool = Field(
        False,
        description="Whether clips reach Triton through shared memory; only where worker and Triton share `/dev/shm`.",
    )
    triton_dir: Path = Field(
        Path(".triton"),
        description="Where `vidtr install-triton` puts the tritonserver of `--engine triton`.",
    )
    state_dir: Path = Field(Path(".vidtr"), description="Where `vidtr up` keeps its Redis data between runs.")
