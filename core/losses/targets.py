"""What a network learns: the classes of the label maps, which exclude each other, or regions, which may overlap."""

from __future__ import annotations

from collections.abc import Iterable

from core.choices import LossName, Targets
from core.errors import ConfigError
from core.losses import LOSSES
from core.regions import NOT_DERIVED, RegionSpace


def resolve_targets(targets: Targets, loss: LossName, regions: RegionSpace | None) -> Targets:
    """ "labels" or "regions": what ``auto`` is for a data set and a loss, and otherwise what is configured.

    Parameters
    ----------
    targets : str. As configured; ``auto`` takes regions where the data set has some that overlap.
    loss : str. Configured loss.
    regions : RegionSpace or None. Regions of the data set, of the classes of the run.

    Raises
    ------
    ConfigError
        If regions are configured, and there are none, no label map can be made of them, or the loss is not for regions.
    """
    if targets == "labels":
        return "labels"
    problem = _problem(loss, regions)
    if not problem:
        return "regions"
    if targets == "regions":
        raise ConfigError(f"targets: {problem}")
    return "labels"


def common_targets(targets: Targets, losses: Iterable[LossName], regions: RegionSpace | None) -> Targets:
    """What all networks of runs that are compared by their mean Dice learn, which is of classes or of regions: the
    regions where every loss is for them.

    Parameters
    ----------
    targets : str. As configured.
    losses : iterable of str. Losses of the runs.
    regions : RegionSpace or None. Regions of the data set, of the classes of the runs.

    Raises
    ------
    ConfigError
        As :func:`resolve_targets`.
    """
    learned = {resolve_targets(targets, loss, regions) for loss in losses}
    return "regions" if learned == {"regions"} else "labels"


def _problem(loss: LossName, regions: RegionSpace | None) -> str:
    """Why a network cannot learn the regions; empty where it can."""
    if regions is None or regions.unions is None:
        return "expected labels or auto for a data set without regions, got regions; see 'regions' in docs/data.md"
    if not regions.painted:
        return f"expected labels or auto for the regions {', '.join(regions.names)}, got regions: {NOT_DERIVED}"
    if not LOSSES[loss].overlapping:
        fitting = ", ".join(name for name, entry in LOSSES.items() if entry.overlapping)
        return (
            f"expected labels for {loss}, whose classes exclude each other, got regions; or one of the losses {fitting}"
        )
    return ""
