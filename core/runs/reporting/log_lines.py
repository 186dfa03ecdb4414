"""Training events as lines of text, for log files and for terminals that are not interactive."""

from __future__ import annotations

from collections.abc import Mapping

from core.events import Ended, Event, Metrics, Note, Preparing, Ready, Saved
from core.formatting import format_clock, format_score

_VALIDATIONS = (("val", "validation Dice"), ("whole", "whole-volume Dice"))


LOSS_EVERY_S = 30.0


class LogFormatter:
    """Turns events into lines; remembers what it said last, so that progress does not flood a log.

    Dice is always told, with the newest training loss; losses alone twice a minute at most.
    """

    def __init__(self) -> None:
        self._preparing = ""
        self._loss: dict[str, float] = {}
        self._told_at = -LOSS_EVERY_S

    def lines(self, event: Event) -> list[str]:
        """What there is to say about an event; often nothing."""
        if isinstance(event, Preparing):
            fresh, self._preparing = event.what != self._preparing, event.what
            return [f"{event.what} ({event.total})" if event.total > 1 else event.what] if fresh else []
        if isinstance(event, Ready):
            facts = ", ".join(f"{name} {value}" for name, value in event.facts.items())
            resumed = f"; goes on after epoch {event.start_epoch}, step {event.start_step}" if event.start_step else ""
            return [f"training starts: {facts}{resumed}"]
        if isinstance(event, Note):
            return [event.text]
        if isinstance(event, Metrics):
            return self._measured(event)
        if isinstance(event, Saved) and event.kind == "best" and event.mean_dice is not None:
            on = f" on {event.measured_on}" if event.measured_on else ""
            return [f"best so far: mean Dice {event.mean_dice:.4f}{on}, epoch {event.epoch}"]
        if isinstance(event, Ended):
            return [f"{event.reason} after epoch {event.epoch}, {format_clock(event.elapsed_s)}"]
        return []

    def _measured(self, event: Metrics) -> list[str]:
        if "train/loss" in event.values:
            self._loss = {"train/loss": event.values["train/loss"]}
        if not any("/dice" in name for name in event.values) and event.elapsed_s - self._told_at < LOSS_EVERY_S:
            return []
        told = measured({**self._loss, **event.values})
        if not told:
            return []
        self._told_at, self._loss = event.elapsed_s, {}
        return [f"epoch {event.epoch}  {format_clock(event.elapsed_s)}  {told}"]


def measured(values: Mapping[str, float]) -> str:
    """Losses and Dice out of a set of metrics, in a few words; empty if it holds neither."""
    losses = (("train/loss", "loss"), ("val/loss", "validation loss"))
    parts = [f"{what} {format_score(values[key])}" for key, what in losses if key in values]
    for prefix, what in _VALIDATIONS:
        told = dice(values, prefix)
        if told:
            parts.append(f"{what} {told}")
    return ", ".join(parts)


def dice(values: Mapping[str, float], prefix: str) -> str:
    """``0.812 (CSF 0.80, GM 0.82)`` from the metrics under a prefix ("val" or "whole"); empty if there are none."""
    start = f"{prefix}/dice/"
    classes = ", ".join(
        f"{key.removeprefix(start)} {format_score(v)}" for key, v in values.items() if key.startswith(start)
    )
    mean = values.get(f"{prefix}/dice_mean")
    if mean is None:
        return classes
    return f"{format_score(mean)} ({classes})" if classes else format_score(mean)
