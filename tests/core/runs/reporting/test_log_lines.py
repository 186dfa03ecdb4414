"""Events as lines of text."""

from __future__ import annotations

import math

from core.events import Ended, Metrics, Note, Preparing, Progress, Ready, Saved
from core.runs.reporting.log_lines import LogFormatter


def test_each_activity_of_the_preparation_is_logged_once() -> None:
    formatter = LogFormatter()
    events = [Preparing("reading subjects", i, 3) for i in range(4)] + [Preparing("planning", 0, 1)]
    assert [line for event in events for line in formatter.lines(event)] == ["reading subjects (3)", "planning"]


def test_measurement_is_one_line_with_dice_per_class() -> None:
    dice = {"val/dice/CSF": 0.5, "val/dice/GM": math.nan, "val/dice_mean": 0.5}
    whole = {"whole/dice/CSF": 0.25, "whole/dice_mean": 0.25}
    (line,) = LogFormatter().lines(Metrics(3, 30, 65.0, {"train/loss": 0.125, "val/loss": 0.25, **dice, **whole}))
    assert line == (
        "epoch 3  1:05  loss 0.125, validation loss 0.250, validation Dice 0.500 (CSF 0.500, GM –), "
        "whole-volume Dice 0.250 (CSF 0.250)"
    )
    assert LogFormatter().lines(Metrics(3, 30, 65.0, {"lr": 0.1, "speed": 3.0})) == []


def test_losses_are_logged_rarely_and_with_the_next_dice() -> None:
    formatter = LogFormatter()
    rows = [
        Metrics(1, 1, 1.0, {"train/loss": 0.9, "lr": 0.1}),
        Metrics(1, 2, 20.0, {"train/loss": 0.8}),
        Metrics(2, 3, 31.0, {"train/loss": 0.7}),
        Metrics(2, 4, 32.0, {"train/loss": 0.6}),
        Metrics(2, 4, 33.0, {"val/dice/CSF": 0.5, "val/dice_mean": 0.5}),
        Metrics(2, 4, 34.0, {"whole/dice/CSF": 0.25, "whole/dice_mean": 0.25}),
    ]
    assert [line for row in rows for line in formatter.lines(row)] == [
        "epoch 1  0:01  loss 0.900",
        "epoch 2  0:31  loss 0.700",
        "epoch 2  0:33  loss 0.600, validation Dice 0.500 (CSF 0.500)",
        "epoch 2  0:34  whole-volume Dice 0.250 (CSF 0.250)",
    ]


def test_start_best_and_end_are_logged_and_progress_is_not() -> None:
    lines = LogFormatter().lines
    assert lines(Ready({"device": "cpu", "precision": "bf16"}, ("a", "b"), 0, 0)) == [
        "training starts: device cpu, precision bf16"
    ]
    assert lines(Ready({"device": "cpu"}, ("a", "b"), 4, 40))[0].endswith("after epoch 4, step 40")
    assert lines(Saved("best", "x", 4, 40, 0.5, "whole volumes")) == [
        "best so far: mean Dice 0.5000 on whole volumes, epoch 4"
    ]
    assert lines(Note("steps are launched one by one")) == ["steps are launched one by one"]
    assert lines(Saved("last", "x", 4, 40, None, None)) == []
    assert lines(Progress(1, 2, 3, 5, 0.5, 1.0, 1.0, None)) == []
    assert lines(Ended("stopped", 4, 40, 3700)) == ["stopped after epoch 4, 1:01:40"]
