"""Left and right: what left-right mirroring of images does with the labels of classes that have a side.

Mirroring turns a left kidney into a right one. Where both are classes, their labels are exchanged with the image; where
one of them is missing, mirrored images would be labelled wrongly. Classes with a side are found by their names
(:mod:`core.side_names`) and by where they lie (:mod:`core.class_positions`).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.choices import Lateral
from core.class_positions import (
    ClassPositions,
    are_mirror_images,
    are_strict_mirror_images,
    lies_on_side,
    reversed_subjects,
    unnamed_mirror_images,
)
from core.config import AugmentConfig
from core.errors import ConfigError
from core.formatting import format_list
from core.side_names import read_side, read_sides, split_words

NamePair = tuple[str, str]  # left, right
# Chambers of the heart, which seldom are mirror images of each other, and words of the brain's ventricles.
HEART_WORDS = (
    "atrium atria atrial auricle auricula appendage atrio vorhof oreillette ventricle ventricles ventricular "
    "ventriculus ventricolo ventriculo ventrikel kammer herzkammer ventricule"
)
BRAIN_WORDS = "lateral lateralis laterale lat seitenventrikel"
NO_MIRRORING = "images are not mirrored"
SUSPECTED_FIX = "if they are left and right of one structure, train with --lateral swap, else with --lateral ignore"


@dataclass(frozen=True)
class Laterality:
    """The classes of a network that have a side.

    Attributes
    ----------
    pairs : tuple of (str, str). Left and right of one structure.
    lone : tuple of str. Classes with a side whose partner is not a class of the network.
    unlike : tuple of (str, str). Left and right by name that do not lie as mirror images of each other, such as the
        atria of the heart.
    suspected : tuple of (str, str). Classes without a side in their names that lie as mirror images of each other.
    """

    pairs: tuple[NamePair, ...] = ()
    lone: tuple[str, ...] = ()
    unlike: tuple[NamePair, ...] = ()
    suspected: tuple[NamePair, ...] = ()

    @property
    def named(self) -> tuple[str, ...]:
        """Classes with a side in their names."""
        return (*itertools.chain(*self.pairs, *self.unlike), *self.lone)


@dataclass(frozen=True)
class Mirroring:
    """What left-right mirroring does with labels.

    Attributes
    ----------
    lateral : "swap", "off" (no image is mirrored) or "ignore" (labels are mirrored with the image, nothing else).
    pairs : tuple of (str, str). Classes whose labels are exchanged.
    reason : str. For display; empty where no class has a side.
    fix : str. What the user can do; empty where nothing is needed.
    """

    lateral: Lateral
    pairs: tuple[NamePair, ...] = ()
    reason: str = ""
    fix: str = ""

    def values(self) -> dict[str, Any]:
        """The configuration fields with which a run keeps to it; without mirroring, flips are off too."""
        values: dict[str, Any] = {"lateral": self.lateral, "lateral_pairs": tuple(itertools.chain(*self.pairs))}
        if self.lateral == "off":
            values |= {"flip": 0.0, "mirror": False}
        return values


def find_sides(
    classes: Sequence[str],
    all_classes: Sequence[str],
    positions: Sequence[ClassPositions] = (),
    given: Sequence[NamePair] = (),
) -> Laterality:
    """The classes of a network that have a side.

    Parameters
    ----------
    classes : sequence of str. Classes of the network, background first.
    all_classes : sequence of str. Classes of the data set, background first: a partner that is not trained is known.
    positions : sequence of ClassPositions. Of ``classes``, by subject; without any, names alone decide.
    given : sequence of (str, str). Pairs stated by the user, which are not examined.
    """
    given_names = set(itertools.chain(*given))
    named = read_sides(all_classes)
    index = {name: n for n, name in enumerate(classes) if n and name not in given_names}
    pairs, unlike = list(given), list[NamePair]()
    lone = [all_classes[n] for n in named.lone if all_classes[n] in index]
    for a, b in named.pairs:
        pair = all_classes[a], all_classes[b]
        here = [name for name in pair if name in index]
        if len(here) == 1:
            lone += here
        elif len(here) == 2:
            alike = _lie_alike(positions, pair, index)
            (pairs if alike else unlike).append(pair)
    for a, b in named.possible_pairs:
        pair = all_classes[a], all_classes[b]
        if all(name in index for name in pair) and are_strict_mirror_images(positions, index[pair[0]], index[pair[1]]):
            pairs.append(pair)
    for n, side in named.possible_lone:
        name = all_classes[n]
        if name in index and lies_on_side(positions, index[name], side):
            lone.append(name)
    sided = {*itertools.chain(*pairs, *unlike), *lone}
    candidates = [n for name, n in index.items() if name not in sided]
    suspected = [(classes[a], classes[b]) for a, b in unnamed_mirror_images(positions, candidates)]
    return Laterality(tuple(pairs), tuple(lone), tuple(unlike), tuple(suspected))


def resolve_mirroring(augment: AugmentConfig, sides: Laterality, unoriented: Sequence[str] = ()) -> Mirroring:
    """What mirroring does in a run.

    Parameters
    ----------
    augment : AugmentConfig. The request: ``lateral`` and ``lateral_pairs``.
    sides : Laterality. Classes of the network with a side; with the stated pairs.
    unoriented : sequence of str. Ids of subjects whose files state no orientation, so that their first axis need not
        run from left to right.
    """
    if augment.lateral in ("off", "ignore"):
        unchanged = "labels are not swapped when an image is mirrored" if sides.named else ""
        return Mirroring(augment.lateral, (), NO_MIRRORING if augment.lateral == "off" else unchanged)
    if augment.lateral == "swap":
        pairs = augment.stated_pairs or (*sides.pairs, *sides.unlike, *sides.suspected)
        if not pairs:
            return Mirroring("ignore", (), "no pair of left and right to swap was found")
        unknown = f"; no orientation in {format_list(unoriented, 3)}" if unoriented else ""
        return Mirroring("swap", pairs, swapped_text(pairs) + unknown)
    obstacle = _obstacle(sides, unoriented)
    if obstacle:
        return Mirroring("off", (), f"{NO_MIRRORING}, since {obstacle}", SUSPECTED_FIX if sides.suspected else "")
    if sides.pairs:
        return Mirroring("swap", sides.pairs, swapped_text(sides.pairs))
    return Mirroring("ignore")


def stored_mirroring(augment: AugmentConfig) -> Mirroring:
    """The mirroring of a run by the configuration in its checkpoint; before version 0.2 nothing was swapped."""
    if augment.lateral == "auto":
        return Mirroring("ignore")
    pairs = augment.stated_pairs
    reason = swapped_text(pairs) if pairs else NO_MIRRORING if augment.lateral == "off" else ""
    return Mirroring(augment.lateral, pairs, reason)


def check_pairs(augment: AugmentConfig, classes: Sequence[str]) -> None:
    """Refuse pairs of names that are not classes of the network, or occur twice.

    Raises
    ------
    ConfigError
        If there are any.
    """
    repeated = sorted({name for name in augment.lateral_pairs if augment.lateral_pairs.count(name) > 1})
    if repeated:
        raise ConfigError(f"lateral_pairs: expected every class once, got {format_list(repeated)} more than once")
    unknown = [name for name in augment.lateral_pairs if name not in classes[1:]]
    if unknown:
        raise ConfigError(
            f"lateral_pairs: expected classes out of {format_list(classes[1:])}; got {format_list(unknown)}"
        )


def unknown_sides(classes: Sequence[str]) -> str:
    """A warning for an image without orientation, of a network with these classes; empty where none has a side."""
    named = find_sides(classes, classes).named
    return f"the image states no orientation: {format_list(named, 4)} may be on the other side" if named else ""


def averaged_sides(classes: Sequence[str]) -> str:
    """A warning for mirrored prediction without swapping, by a network with these classes; empty where it is right."""
    named = find_sides(classes, classes).named
    return f"mirrored prediction averages the two sides of {format_list(named, 4)}; leave --mirror out" if named else ""


def swapped_text(pairs: Sequence[NamePair]) -> str:
    """Pairs whose labels are exchanged, as text."""
    return f"swapped when an image is mirrored: {format_pairs(pairs)}"


def format_pairs(pairs: Sequence[NamePair], limit: int = 4) -> str:
    """Pairs as text: ``left kidney / right kidney, left lung / right lung and 5 more``."""
    return format_list([f"{left} / {right}" for left, right in pairs], limit)


def describe_reversed(
    sides: Laterality, classes: Sequence[str], positions: Sequence[ClassPositions]
) -> tuple[str, ...]:
    """A sentence for each pair whose left one lies on the right in some subjects: names or orientation are wrong."""
    found = []
    for left, right in sides.pairs:
        ids = reversed_subjects(positions, classes.index(left), classes.index(right))
        if ids and any(reading.side == "left" for reading in read_side(left)):
            where = f"in {len(ids)} of {len(positions)} subjects: {format_list(ids, 4)}"
            found.append(f"{left} lies to the right of {right} {where}")
    return tuple(found)


def _lie_alike(positions: Sequence[ClassPositions], pair: NamePair, index: Mapping[str, int]) -> bool:
    """Whether positions do not contradict a pair of left and right by name; for the heart they have to confirm it."""
    words = set(split_words(pair[0]))
    left, right = index[pair[0]], index[pair[1]]
    if positions and words & set(HEART_WORDS.split()) and not words & set(BRAIN_WORDS.split()):
        return are_strict_mirror_images(positions, left, right)
    return are_mirror_images(positions, left, right) is not False


def _obstacle(sides: Laterality, unoriented: Sequence[str]) -> str:
    """Why images cannot be mirrored; empty where they can."""
    if unoriented and sides.named:
        verb = "state" if len(unoriented) > 1 else "states"
        return f"{format_list(unoriented, 3)} {verb} no orientation: left and right of {sides.named[0]} are unknown"
    if sides.lone:
        verb = "have" if len(sides.lone) > 1 else "has"
        return f"{format_list(sides.lone, 4)} {verb} a side, but no class for the other side"
    if sides.unlike:
        return f"{format_pairs(sides.unlike)} do not lie as mirror images of each other"
    if sides.suspected:
        return f"{format_pairs(sides.suspected)} lie as mirror images of each other, but have no side in their names"
    return ""
