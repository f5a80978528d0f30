"""Twelve generated clips that the bundled model gets right and wrong, frame by frame: `python -m docs.contact_sheets`.

The clips are camera moves over textures that are made up, so that no picture of anybody is in them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from docs.card_tables import PAGE, written
from docs.figure_data import shipped_model
from service.aggregate import NOTHING_CLEAR, abstains, probabilities, ranked
from service.contracts import ModelSpec, Prediction
from service.evaluation.candidates import of_repository, score_all
from service.evaluation.examples import attention_picture
from service.training.camera_motion.mixed_moves import MixedMoves, MovesConfig
from service.training.camera_motion.moves import MOVE_LABELS
from service.training.camera_motion.textures import texture_bank
from service.training.moves_source import TEXTURE_SIDE

FOLDER = Path(__file__).parent / "camera_motion_sheets"
TABLE = "sheets.json"
EACH = 6
CANDIDATES, GRAIN, TEXTURES, SEED = 320, 16, 80, 11
_QUALITY = 85


@dataclass(frozen=True)
class Sheet:
    """A clip, what is shown in it, and what the model says."""

    clip: Tensor
    """uint8 `(T, H, W, 3)`."""
    attention: Tensor
    cut: int
    truth: tuple[str, ...]
    said: tuple[Prediction, ...]
    """The labels that pass their thresholds, of a model without them the best one; none where it abstains."""

    @property
    def right(self) -> bool:
        """Whether the first label said is one that is shown."""
        return bool(self.said) and self.said[0].label in self.truth

    @property
    def kind(self) -> str:
        """The answer that a sheet is an example of."""
        return self.said[0].label if self.said else NOTHING_CLEAR

    @property
    def words(self) -> str:
        """What is shown and said."""
        said = ", ".join(map(_scored, self.said)) or NOTHING_CLEAR
        return f"shown: {', '.join(self.truth)}; said: {said}".replace("_", " ")


def look(spec: ModelSpec, repository: Path) -> list[Sheet]:
    """All clips that sheets are chosen from, as the model sees them."""
    bank = texture_bank([], tiles_each=0, procedural=TEXTURES, side=TEXTURE_SIDE, seed=SEED)
    moves = MixedMoves(bank, None, MovesConfig(frames=spec.frames, side=spec.height, framing=spec.framing), SEED)
    batches = [moves.batch(GRAIN) for _ in range(CANDIDATES // GRAIN)]
    clips, targets, cut = (torch.cat([getattr(each, name) for each in batches]) for name in ("clips", "targets", "cut"))
    found = score_all(of_repository(repository / spec.name).score, clips)
    scores = probabilities(found.logits.double().numpy(), spec.activation)
    known = [(k, label) for k, label in enumerate(MOVE_LABELS) if label in spec.labels]
    sheets = []
    for number, row in enumerate(scores):
        truth = tuple(label for k, label in known if targets[number, k] >= 0.5)
        judged = ranked(row, spec.labels, len(spec.labels), 0.0, spec.thresholds, spec.qualifiers)
        said = judged[:1] if not spec.thresholds else tuple(p for p in judged if p.passes)
        if abstains(row, spec.labels, spec.thresholds, spec.qualifiers):
            said = ()
        sheets.append(Sheet(clips[number], found.temporal_attention[number], int(cut[number]), truth, said))
    return sheets


def chosen(sheets: Sequence[Sheet], *, right: bool) -> list[Sheet]:
    """`EACH` sheets, of as many kinds as there are before a second of any kind."""
    fitting = [each for each in sheets if each.right is right and each.truth]
    seen: dict[str, int] = {}
    turns = []
    for each in fitting:
        turns.append(seen.get(each.kind, 0))
        seen[each.kind] = turns[-1] + 1
    order = sorted(range(len(fitting)), key=lambda i: (turns[i], i))
    return [fitting[i] for i in order[:EACH]]


def page_of(rows: Sequence[tuple[str, str]]) -> str:
    """The sheets as Markdown; rows are names of files and what stands on them."""
    parts = []
    for kind in ("right", "wrong"):
        pictures = [f"![{words}]({FOLDER.name}/{name})\n\n{words}" for name, words in rows if name.startswith(kind)]
        parts += [f"**{kind.capitalize()}**", *pictures]
    return "\n\n".join(parts)


def _scored(prediction: Prediction) -> str:
    threshold = "" if prediction.threshold is None else f" (from {prediction.threshold:.2f} on)"
    return f"{prediction.label} {prediction.score:.2f}{threshold}"


def main() -> None:
    """Draw the sheets and write them into the page."""
    torch.set_num_threads(1)
    file = shipped_model()
    sheets = look(file.spec, file.path.parents[2])
    FOLDER.mkdir(exist_ok=True)
    for earlier in FOLDER.glob("*.webp"):
        earlier.unlink()
    rows = []
    for kind in ("right", "wrong"):
        for number, each in enumerate(chosen(sheets, right=kind == "right"), start=1):
            name = f"{kind}_{number}.webp"
            picture = attention_picture(each.clip[None], each.attention[None], torch.tensor([each.cut]))
            Image.fromarray(picture.numpy()).save(FOLDER / name, quality=_QUALITY)
            rows.append((name, each.words))
    kept = {"weights_sha256": file.spec.weights_sha256, "sheets": rows}
    (FOLDER / TABLE).write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    page = written(PAGE.read_text(encoding="utf-8"), {"sheets": page_of(rows)})
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
