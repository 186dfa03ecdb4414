"""Findings of the data doctor on left and right: classes with a side, and what mirroring does with them in training."""

from __future__ import annotations

from collections.abc import Sequence

from core.class_positions import ClassPositions
from core.config import AugmentConfig
from core.datasets.findings import Finding
from core.labels import LabelSpace
from core.laterality import describe_reversed, find_sides, resolve_mirroring

MEANING = "the network learns left and right from some subjects and the reverse from others"


def check_sides(labels: LabelSpace, positions: Sequence[ClassPositions], unoriented: Sequence[str]) -> list[Finding]:
    """Findings on classes with a side; none where no class has one.

    Parameters
    ----------
    labels : LabelSpace. Classes of the data set.
    positions : sequence of ClassPositions. Of each label map that could be read.
    unoriented : sequence of str. Ids of subjects whose files state no orientation.
    """
    sides = find_sides(labels.names, labels.names, positions)
    mirroring = resolve_mirroring(AugmentConfig(), sides, unoriented)
    findings = [Finding("note", f"left and right: {mirroring.reason}", fix=mirroring.fix)] if mirroring.reason else []
    if unoriented and sides.named:
        findings.append(
            Finding(
                "warning",
                f"left and right of {sides.named[0]} are unknown in {len(unoriented)} of {len(positions)} subjects, "
                "which state no orientation: they may be exchanged in some",
                fix="convert the original images again, to NIfTI with a qform or an sform",
                meaning=MEANING,
            )
        )
    oriented = [p for p in positions if p.id not in unoriented]
    return findings + [
        Finding("warning", sentence, fix="look at their pictures: are names and orientation right?", meaning=MEANING)
        for sentence in describe_reversed(sides, labels.names, oriented)
    ]
