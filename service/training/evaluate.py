"""Scores on held-out videos, and the figures that describe them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_confusion_matrix,
    multilabel_average_precision,
)

from service.model.factory import Network
from service.model.preprocess import Normalize
from service.training.sources import Examples


@dataclass(frozen=True)
class Evaluation:
    """Scores `(N, K)` and targets `(N, K)` of N videos, and where attention was largest for those with a cut."""

    scores: Tensor
    targets: Tensor
    multi_label: bool
    cut: Tensor
    attention_peak: Tensor
    views: Tensor | None = None
    """Scores of every view `(N, V, K)`, windows first and crops within them, where all videos have as many."""

    def by_windows(self, crops: int = 1) -> dict[int, float]:
        """Top-1, or mean average precision, from 1, 2, ... of the windows, evenly spread over those there are."""
        if self.views is None:
            return {}
        by_window = self.views.view(len(self.views), -1, crops, self.views.size(2)).mean(2)  # (N, windows, K)
        found = {}
        for count in range(1, by_window.size(1) + 1):
            chosen = torch.linspace(0, by_window.size(1) - 1, count).round().long()
            fewer = replace(self, scores=by_window[:, chosen].mean(1), views=None)
            found[count] = fewer.figures["mAP" if self.multi_label else "top1"]
        return found

    @property
    def figures(self) -> dict[str, float]:
        """Top-1, top-5 and calibration error, or mean average precision; `cut_found` where there are cuts."""
        truth, classes = self.targets.argmax(1), self.targets.size(1)
        if self.multi_label:
            held = self.targets.round().long()  # what is generated may hold in part
            seen = held.sum(0) > 0  # a class without a positive has no precision
            ap = multilabel_average_precision(self.scores[:, seen], held[:, seen], int(seen.sum()), average="macro")
            return {"mAP": float(ap), **self._cuts}
        found = {
            "top1": float(multiclass_accuracy(self.scores, truth, classes, average="micro")),
            "top5": float(multiclass_accuracy(self.scores, truth, classes, average="micro", top_k=min(5, classes))),
            "ece": float(multiclass_calibration_error(self.scores, truth, classes, n_bins=15)),
        }
        return found | self._cuts

    @property
    def _cuts(self) -> dict[str, float]:
        cuts = self.cut >= 0
        if not bool(cuts.any()):
            return {}
        behind = (self.attention_peak - self.cut)[cuts]
        return {"cut_found": float(((behind == 0) | (behind == 1)).float().mean())}

    @property
    def confusion(self) -> Tensor:
        """Counts `(K, K)`: rows are the true classes, columns the predicted ones."""
        counts: Tensor = multiclass_confusion_matrix(self.scores, self.targets.argmax(1), self.targets.size(1))
        return counts


@torch.inference_mode()
def evaluate(network: Network, examples: list[Examples], *, multi_label: bool, batch: int = 32) -> Evaluation:
    """Score the examples: rows of `targets` are videos, whose views are averaged after softmax or sigmoid."""
    was_training = network.training
    network.eval()
    device = network.fc.weight.device
    normalize = Normalize().to(device)
    scores, targets, cuts, peaks, views = [], [], [], [], []
    for example in examples:
        logits, attention = [], []
        for part in torch.split(example.clips, batch):
            out = network(normalize(part.to(device)))
            logits.append(out.logits.float().cpu())
            attention.append(out.temporal_attention.cpu())
        chances = torch.cat(logits).sigmoid() if multi_label else torch.cat(logits).softmax(1)
        videos = len(example.targets)
        views.append(chances.view(videos, -1, chances.size(1)))
        scores.append(views[-1].mean(1))
        looked = torch.cat(attention)
        peaks.append(looked.view(videos, -1, looked.size(1)).mean(1).argmax(1))
        targets.append(example.targets)
        cuts.append(example.cut)
    network.train(was_training)
    alike = len({view.size(1) for view in views}) == 1
    return Evaluation(
        torch.cat(scores),
        torch.cat(targets),
        multi_label,
        torch.cat(cuts),
        torch.cat(peaks),
        torch.cat(views) if alike else None,
    )
