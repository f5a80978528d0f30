"""Weights in and out: checkpoints are read without running them, and fit by name and shape or are inflated."""

from service.model.weights.checkpoint import CheckpointError, read_checkpoint
from service.model.weights.inflate import inflate
from service.model.weights.matching import CheckpointMismatch, assign_weights
from service.model.weights.native import load_weights, save_weights

__all__ = [
    "CheckpointError",
    "CheckpointMismatch",
    "assign_weights",
    "inflate",
    "load_weights",
    "read_checkpoint",
    "save_weights",
]
