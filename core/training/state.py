"""State of a training run that a checkpoint stores in addition to the tensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from core.events import WHOLE_VOLUMES_MEASURED
from core.training.early_stopping import EarlyStopping

NEVER = -1


@dataclass
class TrainingState:
    """Counters, best score and early stopping.

    Attributes
    ----------
    early_stopping : EarlyStopping.
    epoch : int. Current epoch, counted from 1; 0 before the first step.
    step : int. Optimizer steps done.
    validated_epoch : int. Last epoch whose validation is complete.
    final_validation_step : int. Step of a completed final validation; -1 before.
    best : dict or None. Epoch, mean Dice and kind of validation (``measured_on``) of the best checkpoint.
    inference : dict. Inference mode and tile size to predict with, and mean Dice by mode after the final validation.
    """

    early_stopping: EarlyStopping
    epoch: int = 0
    step: int = 0
    validated_epoch: int = 0
    final_validation_step: int = NEVER
    best: dict[str, Any] | None = None
    inference: dict[str, Any] = field(default_factory=dict)

    def is_best(self, mean_dice: float, measured_on: str) -> bool:
        """Whether a score, which is not NaN, is better than that of the best checkpoint: higher in the same kind of
        validation, or of whole volumes where that one is of sub-volumes."""
        if self.best is None:
            return True
        best_measured_on = self.best.get("measured_on", measured_on)
        if measured_on != best_measured_on:
            return measured_on == WHOLE_VOLUMES_MEASURED
        return bool(mean_dice > self.best["mean_dice"])

    def state_dict(self) -> dict[str, Any]:
        """Progress for the metadata of a checkpoint; the names are part of the file format."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "best": self.best,
            "validated": self.validated_epoch,
            "final_validation_step": self.final_validation_step,
            "patience": self.early_stopping.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any], inference: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned; older checkpoints lack some values."""
        self.epoch, self.step, self.best = int(state["epoch"]), int(state["step"]), state["best"]
        self.validated_epoch = int(state.get("validated", self.epoch))
        self.final_validation_step = int(state.get("final_validation_step", NEVER))
        if self.final_validation_step == self.step:
            self.inference = dict(inference)
        if "patience" in state:
            self.early_stopping.load_state_dict(state["patience"])
