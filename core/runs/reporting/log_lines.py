"""Training events as log lines, for log files and for terminals that are not interactive."""

from __future__ import annotations

from collections.abc import Mapping

from core.events import Ended, Event, Metrics, Note, Preparing, Ready, Saved
from core.formatting import format_clock, format_number, format_score

LOSS_EVERY_S = 30.0
_DICE_LABELS = (("val", "validation Dice"), ("whole", "whole-volume Dice"))
_LOSS_LABELS = (("train/loss", "loss"), ("val/loss", "validation loss"))


class LogFormatter:
    """Formats events as lines; repeated progress is left out.

    Every Dice is logged, together with the last training loss; losses without Dice at most once per ``LOSS_EVERY_S``.
    """

    def __init__(self) -> None:
        self._activity = ""
        self._train_loss: dict[str, float] = {}
        self._logged_at_s = -LOSS_EVERY_S

    def lines(self, event: Event) -> list[str]:
        """The lines of an event; empty for most events."""
        if isinstance(event, Preparing):
            if event.activity == self._activity:
                return []
            self._activity = event.activity
            return [f"{event.activity} ({event.total})" if event.total > 1 else event.activity]
        if isinstance(event, Ready):
            facts = ", ".join(f"{name} {value}" for name, value in event.facts.items())
            resumed = f"; resumes after epoch {event.start_epoch}, step {event.start_step}" if event.start_step else ""
            return [f"training starts: {facts}{resumed}"]
        if isinstance(event, Note):
            return [event.text]
        if isinstance(event, Metrics):
            return self._metrics_lines(event)
        if isinstance(event, Saved) and event.kind == "best" and event.mean_dice is not None:
            on = f" on {event.measured_on}" if event.measured_on else ""
            return [f"best so far: mean Dice {format_number(event.mean_dice, 4)}{on}, epoch {event.epoch}"]
        if isinstance(event, Ended):
            return [f"{event.reason} after epoch {event.epoch}, {format_clock(event.elapsed_s)}"]
        return []

    def _metrics_lines(self, event: Metrics) -> list[str]:
        if "train/loss" in event.values:
            self._train_loss = {"train/loss": event.values["train/loss"]}
        has_dice = any("/dice" in name for name in event.values)
        if not has_dice and event.elapsed_s - self._logged_at_s < LOSS_EVERY_S:
            return []
        text = format_metrics({**self._train_loss, **event.values})
        if not text:
            return []
        self._logged_at_s, self._train_loss = event.elapsed_s, {}
        return [f"epoch {event.epoch}  {format_clock(event.elapsed_s)}  {text}"]


def format_metrics(values: Mapping[str, float]) -> str:
    """Losses and Dice of a set of metrics on one line; empty if there are none."""
    parts = [f"{label} {format_score(values[name])}" for name, label in _LOSS_LABELS if name in values]
    for prefix, label in _DICE_LABELS:
        text = format_dice(values, prefix)
        if text:
            parts.append(f"{label} {text}")
    return ", ".join(parts)


def format_dice(values: Mapping[str, float], prefix: str) -> str:
    """``0.812 (CSF 0.80, GM 0.82)`` from the metrics with a prefix ("val" or "whole"); empty if there are none."""
    start = f"{prefix}/dice/"
    classes = ", ".join(
        f"{name.removeprefix(start)} {format_score(value)}" for name, value in values.items() if name.startswith(start)
    )
    mean = values.get(f"{prefix}/dice_mean")
    if mean is None:
        return classes
    return f"{format_score(mean)} ({classes})" if classes else format_score(mean)
