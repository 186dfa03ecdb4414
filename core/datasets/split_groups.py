"""Groups of subjects that a split keeps on one side, such as the sessions of a person, from parts of their file names.

The parts are the entities of a layout's patterns (:mod:`core.datasets.layouts.patterns`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from core.errors import DatasetError

Entities = Mapping[str, str]

AUTO, NONE, PERSON = "auto", "none", "person"
# Entities that name a person, the first one that is there; and those within which such names are unique. All others,
# such as session, scan or frame, distinguish images of one person.
PERSON_ENTITIES = ("person", "patient", "participant", "subject", "case")
PLACE_ENTITIES = ("site", "hospital", "centre", "center", "institution", "cohort")
STUDY = "study"  # a place too where it precedes the person in the names; behind it, an examination of that person


def split_groups(entities: Mapping[str, Entities], group_by: str) -> dict[str, str]:
    """The group of each subject that shares it with another one.

    Parameters
    ----------
    entities : mapping. Parts of the file names, by id of the subject.
    group_by : str. "none"; "person": whose images they are; "auto": the same where file names state it; or the
        name of an entity. Subjects without that entity are in no group.

    Raises
    ------
    DatasetError
        If no subject has the entity, or file names state no person.
    """
    if group_by in (NONE, ""):
        return {}
    if group_by in (AUTO, PERSON):
        keys = {id: person_of(found) for id, found in entities.items()}
    else:
        keys = {id: found.get(group_by, "") for id, found in entities.items()}
    if group_by != AUTO and not any(keys.values()):
        known = sorted({name for found in entities.values() for name in found})
        raise DatasetError(
            f"group_by: expected auto, none{', person' if any(map(person_of, entities.values())) else ''}"
            f"{''.join(f', {name}' for name in known)}: what the file names of this data set state; got {group_by!r}"
        )
    sizes = Counter(key.casefold() for key in keys.values() if key)
    return {id: key for id, key in keys.items() if sizes[key.casefold()] > 1}


def person_of(entities: Entities) -> str:
    """Text that is the same for subjects of one person; empty where file names state none."""
    name = next((name for name in PERSON_ENTITIES if entities.get(name)), "")
    if not name:
        return ""
    order = list(entities)
    holds_persons = STUDY in order and order.index(STUDY) < order.index(name)
    places = [entities[p] for p in (*PLACE_ENTITIES, *([STUDY] if holds_persons else [])) if entities.get(p)]
    return " ".join([*places, entities[name]])
