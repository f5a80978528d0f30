"""What a training run is described by: one TOML file, checked before anything starts."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.contracts import Activation, ClipFormat, Framing
from service.model.config import SequenceConfig, VidTrConfig

CONFIG_FILE = "config.json"
"""In the folder of a run: its configuration."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GeneratedData(_Section):
    """Camera motion, generated while training from the pictures of a folder."""

    kind: Literal["camera_motion"]
    pictures: Path = Field(description="folder with pictures to train on")
    held_out_pictures: Path = Field(description="folder with pictures to evaluate on; shares none with `pictures`")
    tiles_each: int = Field(48, ge=1, description="tiles cut from each picture")
    procedural: int = Field(300, ge=0, description="textures that are made up instead")
    easy_steps: int = Field(0, ge=0, description="steps until the slowest motions and all degradation are reached")
    reuse: int = Field(1, ge=1, description="steps that see a generated clip, each time in another symmetry")
    evaluation_clips: int = Field(480, ge=12, description="held-out clips of one evaluation")


class MovesData(_Section):
    """Camera moves as real footage has them, generated while training: independent scores of `CAMERA_MOVE_LABELS`."""

    kind: Literal["camera_moves"]
    pictures: Path = Field(description="folder with pictures to train on")
    held_out_pictures: Path = Field(description="folder with pictures to evaluate on; shares none with `pictures`")
    scenes: Path | None = Field(None, description="file of still scenes of real videos to train on")
    held_out_scenes: Path | None = Field(None, description="file of still scenes to evaluate on")
    real_windows: Path | None = Field(None, description="file of real windows with measured cameras to train on")
    held_out_real_windows: Path | None = Field(None, description="file of real windows to evaluate on")
    real_share: float = Field(0.4, ge=0, le=1, description="share of clips that show a real window, if any")
    valued_clips: Path | None = Field(
        None, description="file of clips with scores and values of their frames, trained on instead of rendered ones"
    )
    valued_share: float = Field(0.65, gt=0, le=1, description="share of clips whose values are known, of such a file")
    framing: Framing = Field("whole", description="what of a frame the network sees")
    tiles_each: int = Field(20, ge=1, description="tiles cut from each picture")
    procedural: int = Field(200, ge=0, description="textures that are made up instead")
    reuse: int = Field(4, ge=1, description="steps that see a generated clip, each time in another symmetry")
    evaluation_clips: int = Field(480, ge=16, description="held-out clips of one evaluation")


class MomentsData(_Section):
    """A still camera with one moment of at most two frames, generated while training: one of `MOMENT_LABELS`."""

    kind: Literal["camera_moments"]
    pictures: Path = Field(description="folder with pictures to train on")
    held_out_pictures: Path = Field(description="folder with pictures to evaluate on; shares none with `pictures`")
    tiles_each: int = Field(20, ge=1, description="tiles cut from each picture")
    procedural: int = Field(200, ge=0, description="textures that are made up instead")
    reuse: int = Field(4, ge=1, description="steps that see a generated clip, each time in another symmetry")
    evaluation_clips: int = Field(450, ge=9, description="held-out clips of one evaluation")


class LabeledData(_Section):
    """Labeled videos, read by the rules of a public layout."""

    kind: Literal["folder", "csv", "kinetics", "something_something", "ucf101", "hmdb51", "charades"]
    videos: Path = Field(description="folder that the videos lie in")
    annotations: Path | None = Field(None, description="annotation file, or folder of split files, of the training set")
    held_out_annotations: Path | None = Field(None, description="the same for the evaluation set")
    folds: int = Field(
        5, ge=2, description="where there are no held-out annotations, groups are dealt to so many folds"
    )
    fold: int = Field(0, ge=0, description="the fold that is evaluated on")
    windows: int = Field(4, ge=1, description="windows decoded from each video; training draws one of them")
    scale: float = Field(1.0, ge=1, le=2, description="largest random enlargement before the crop; the paper has 1.25")
    flip: bool = Field(True, description="mirror half of the training clips; not where left and right are labels")

    @model_validator(mode="after")
    def _fold_exists(self) -> LabeledData:
        if self.fold >= self.folds:
            raise ValueError(f"fold must lie in 0 .. {self.folds - 1}, not {self.fold}")
        return self


class Recipe(_Section):
    """How weights are optimized. `paper` is SGD with steps, `modern` AdamW with warm-up and cosine."""

    name: Literal["paper", "modern"] = "modern"
    steps: int = Field(ge=1, description="optimizer steps")
    batch: int = Field(32, ge=1, description="clips in one step, over all processes and accumulated parts")
    accumulate: int = Field(1, ge=1, description="parts that each process computes one after the other")
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    warmup: int = Field(100, ge=0, description="steps of linear warm-up (modern)")
    hold: float = Field(0.0, ge=0, lt=1, description="share of the steps at full rate before the cosine (modern)")
    milestones: tuple[float, ...] = Field((0.5, 0.8), description="shares of the steps where the rate falls (paper)")
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    mixup: float = Field(0.0, ge=0, description="alpha of the Beta distribution; 0 for none")
    ema: float = Field(0.0, ge=0, lt=1, description="decay of the averaged weights; 0 for none")
    clip_norm: float | None = Field(None, gt=0, description="largest gradient norm")
    camera_flow: float = Field(0.0, ge=0, description="weight of the loss that reads generated motion from tokens")
    cut_attention: float = Field(0.0, ge=0, description="weight of the loss that draws attention to generated cuts")
    frame_values: float = Field(
        0.0, ge=0, description="weight of the loss that draws attention to what frames are worth"
    )
    frozen_layers: int = Field(0, ge=0, description="first layers, with what comes before them, that stay as they are")


class RunConfig(_Section):
    """How and where a run goes."""

    seed: int = 0
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    accelerator: str = "auto"
    threads: int = Field(1, ge=1, description="CPU threads of each process")
    renderers: int = Field(0, ge=0, description="processes that render `camera_moves` ahead; 0 for the training one")
    checkpointing: bool = Field(False, description="recompute activations in the backward pass to save memory")
    evaluate_every: int = Field(200, ge=1, description="steps between evaluations and checkpoints")
    log_every: int = Field(20, ge=1)
    frame_step: int = Field(4, ge=1)
    reference_fps: float = Field(30.0, gt=0)
    resize_short_side: int | None = Field(None, description="8/7 of the crop where absent")
    clip_format: ClipFormat = Field(
        "rgb", description="how clips will travel to the served model; it is trained on such"
    )


class TrainConfig(_Section):
    """The whole file."""

    network: dict[str, Any] = Field(description="fields of VidTrConfig, or of SequenceConfig with family = 'sequence'")
    data: GeneratedData | MovesData | MomentsData | LabeledData = Field(discriminator="kind")
    recipe: Recipe
    run: RunConfig = RunConfig()

    @property
    def multi_label(self) -> bool:
        """Whether scores are independent of each other."""
        return self.data.kind in ("charades", "camera_moves")

    @property
    def activation(self) -> Activation:
        """How logits become scores."""
        return "sigmoid" if self.multi_label else "softmax"

    def network_config(self, classes: int) -> VidTrConfig | SequenceConfig:
        """The network for so many classes.

        Raises ValueError or TypeError naming the field that does not fit.
        """
        fields = {k: v for k, v in self.network.items() if k not in ("family", "start")}
        if "pooling" in fields:
            fields["pooling"] = tuple(tuple(pair) for pair in fields["pooling"])
        kind = SequenceConfig if self.network.get("family", "grid") == "sequence" else VidTrConfig
        return kind(classes=classes, **fields)


def is_run(folder: Path) -> bool:
    """Whether the folder is that of a run."""
    return (folder / CONFIG_FILE).is_file()


def read_config(path: Path, changes: Sequence[str] = ()) -> TrainConfig:
    """The run that a TOML file describes; relative paths in it start at the file's folder.

    Each change is `table.field=value`, the value as TOML writes it, and replaces what the file says.

    Raises OSError where it cannot be read, tomllib.TOMLDecodeError where it or a change is no TOML, and pydantic's
    ValidationError naming the field that does not fit.
    """
    raw = tomllib.loads(path.read_text(encoding="utf-8"))
    for change in changes:
        for table, fields in tomllib.loads(change).items():
            raw[table] = {**raw.get(table, {}), **fields} if isinstance(fields, dict) else fields
    data = raw.get("data", {})
    paths = (
        "pictures",
        "held_out_pictures",
        "scenes",
        "held_out_scenes",
        "real_windows",
        "held_out_real_windows",
        "valued_clips",
        "videos",
        "annotations",
        "held_out_annotations",
    )
    for key in paths:
        if isinstance(data, dict) and key in data:
            data[key] = (path.parent / data[key]).resolve()
    start = raw.get("network", {}).get("start")
    if isinstance(start, dict):
        raw["network"]["start"] = {kind: str((path.parent / str(file)).resolve()) for kind, file in start.items()}
    return TrainConfig.model_validate(raw)
