"""Events of a training run. :mod:`core.training.trainer` emits them; listeners write, print or discard them.

Metric names, the same in the run folder, index, TensorBoard and charts:

==========================================  ===========================================================================
``train/loss``                              mean training loss since the previous row with this name
``val/loss``                                mean loss over the validation sub-volumes
``val/dice/<class>``, ``val/dice_mean``     Dice pooled over the validation sub-volumes; the mean excludes background
``val/sub_volume_dice_with_background``     the article's figure: mean over all classes, background included
``whole/dice/<class>``, ``whole/dice_mean`` mean Dice over the held-out subjects, segmented as whole volumes
``lr``                                      learning rate
``speed``                                   training sub-volumes per second
==========================================  ===========================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from core.packed_labels import PackedLabels

SUB_VOLUMES_MEASURED, WHOLE_VOLUMES_MEASURED = "held-out sub-volumes", "held-out whole volumes"
SUB_VOLUME_DICE, WHOLE_DICE = "val/dice_mean", "whole/dice_mean"  # names of the mean Dice on either
FORECAST_FACT = "forecast"  # name of the fact about a run that states its estimated speed


@dataclass(frozen=True)
class Preparing:
    """Progress of work before the first step, such as reading subjects, or after the last one.

    Attributes
    ----------
    activity : str. Name of the work, for display.
    done, total : int. Units of work.
    """

    activity: str
    done: int
    total: int


@dataclass(frozen=True)
class Ready:
    """The first step follows.

    Attributes
    ----------
    facts : dict. Short texts by name, for display: device, precision, parameters.
    classes : tuple of str. Class names, background first.
    start_epoch, start_step : int. Epochs and steps completed before; above 0 for a resumed run.
    colours : tuple of str. Display colour ``#rrggbb`` of each class.
    """

    facts: dict[str, str]
    classes: tuple[str, ...]
    start_epoch: int
    start_step: int
    colours: tuple[str, ...] = ()


@dataclass(frozen=True)
class Note:
    """One sentence for the log."""

    text: str


@dataclass(frozen=True)
class Progress:
    """Progress of training, emitted a few times a second at most.

    Attributes
    ----------
    epoch, epochs : int. Current epoch from 1, and total; the total is an estimate under a time budget.
    step : int. Steps since the start of the run.
    steps_per_epoch : int. Steps of an epoch.
    loss : float or None. Training loss; ``None`` before it is known.
    sub_volumes_per_s : float. Training speed.
    elapsed_s, remaining_s : float. Time since the first step, and an estimate of the rest (``None`` before it is
        known).
    activity : "training", "validating" or similar, for display.
    """

    epoch: int
    epochs: int
    step: int
    steps_per_epoch: int
    loss: float | None
    sub_volumes_per_s: float
    elapsed_s: float
    remaining_s: float | None
    activity: str = "training"


@dataclass(frozen=True)
class Metrics:
    """Metric values by name; NaN if a metric is undefined."""

    epoch: int
    step: int
    elapsed_s: float
    values: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """A slice of a validation sub-volume.

    Attributes
    ----------
    name : str. TensorBoard tag.
    rgb : ndarray, uint8, shape (height, width, 3). Image, reference and prediction side by side.
    """

    epoch: int
    step: int
    name: str
    rgb: np.ndarray


@dataclass(frozen=True)
class Saved:
    """A checkpoint has been written.

    Attributes
    ----------
    kind : "last", "best", or for example "epoch-0010".
    path : str. The file.
    mean_dice : float or None. Score by which the best checkpoint is chosen.
    measured_on : str or None. Where that score was measured: :data:`SUB_VOLUMES_MEASURED` or
        :data:`WHOLE_VOLUMES_MEASURED`.
    """

    kind: str
    path: str
    epoch: int
    step: int
    mean_dice: float | None
    measured_on: str | None


@dataclass(frozen=True)
class Segmented:
    """The held-out subjects, as the best checkpoint segmented them in the validation that chose it, or to be segmented
    with it; before :class:`Ended`.

    Attributes
    ----------
    epoch, step : int. Of the best checkpoint.
    mode : str. Inference mode, "tiles" or "whole".
    label_maps : dict. Class indices by subject id on the grid that training works on, the lowest Dice first; ``None``
        where training scored no whole volumes.
    expected_s : float. Estimated time to segment those without a label map.
    """

    epoch: int
    step: int
    mode: str
    label_maps: Mapping[str, PackedLabels | None]
    expected_s: float = 0.0


@dataclass(frozen=True)
class Ended:
    """Training has ended.

    Attributes
    ----------
    reason : "finished", or "stopped" on request.
    detail : str. Further explanation, may be empty.
    """

    reason: str
    epoch: int
    step: int
    elapsed_s: float
    detail: str = ""


Event = Preparing | Ready | Note | Progress | Metrics | Picture | Saved | Segmented | Ended
Listener = Callable[[Event], None]
