"""Types of fields, and the version of what crosses Redis."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError

SCHEMA_VERSION = 1

ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]
Quota = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,14}/([1-9][0-9]{0,5} )?(second|minute|hour|day|month|year)s?$")]
Activation = Literal["softmax", "sigmoid"]
Precision = Literal["fp32", "bf16", "fp16"]
Arithmetic = Literal["fp32", "bf16", "fp16", "int8"]
EnginePrecision = Literal["auto", "fp32", "bf16", "int8"]
Sampling = Literal["time", "index"]
Resize = Literal["swscale_bilinear", "opencv_bilinear"]
Framing = Literal["crop", "whole"]
ClipFormat = Literal["rgb", "yuv420"]
AttentionDetail = Literal["none", "frames", "layers", "spatial"]
LiveAttention = Literal["none", "frames", "layers"]
Split = Literal["none", "shots"]
EvidenceKind = Literal["none", "causal"]


def _windows(value: object, check: ValidatorFunctionWrapHandler) -> Literal["auto", "all"] | int:
    """The union speaks of each of its members in turn, in words for programmers."""
    try:
        windows: Literal["auto", "all"] | int = check(value)
    except ValidationError:
        raise PydanticCustomError("windows", "Input should be 'auto', 'all' or a whole number from 1 on") from None
    return windows


NamedWindows = Annotated[Literal["auto", "all"], Field(title="NamedWindows")]
Windows = Annotated[NamedWindows | Annotated[int, Field(ge=1, strict=True)], WrapValidator(_windows)]
