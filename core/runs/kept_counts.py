"""Counts of the voxels of kept predictions, stored beside them.

``<kind>/<subject>.json`` in the folder of the predictions holds the time of the prediction that it is of, and the
counts, or why there are none. It is of no use once the prediction is replaced, and is then made again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from core.errors import RunError, UserError
from core.runs.predictions import Prediction
from core.runs.store import folder as files
from core.strict_json import plain
from core.types import TextProgressCallback

Counts = TypeVar("Counts")


@dataclass(frozen=True)
class KeptCounts(Generic[Counts]):
    """Counts of the predictions of a model.

    Attributes
    ----------
    cases : dict. Counts by subject.
    failures : dict. Why a subject cannot be counted, by subject.
    missing : tuple of str. Subjects that can be counted and are not yet.
    outdated : tuple of str. Subjects whose prediction is outdated, which are not counted.
    """

    cases: dict[str, Counts] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    outdated: tuple[str, ...] = ()


@dataclass(frozen=True)
class CountsKind(Generic[Counts]):
    """A kind of counts.

    Attributes
    ----------
    name : str. Name of their folder, and of their field in a file.
    version : int. Version of the format; files of another one are made again.
    parse : callable. The counts from the plain values of a file.
    """

    name: str
    version: int
    parse: Callable[[Any], Counts]

    def read(self, predictions: Mapping[str, Prediction]) -> KeptCounts[Counts]:
        """The counts of predictions that have a score.

        Parameters
        ----------
        predictions : mapping. Kept predictions by subject.
        """
        scored = {id: kept for id, kept in predictions.items() if kept.score is not None}
        found: dict[str, Counts] = {}
        failures: dict[str, str] = {}
        for id, kept in scored.items():
            if kept.stale:
                continue
            content = self._read(kept)
            if content is None:
                continue
            if isinstance(content, str):
                failures[id] = content
            else:
                found[id] = content
        outdated = tuple(id for id, kept in scored.items() if kept.stale)
        missing = tuple(id for id in scored if id not in found and id not in failures and id not in outdated)
        return KeptCounts(found, failures, missing, outdated)

    def count(
        self,
        predictions: Mapping[str, Prediction],
        count: Callable[[Prediction, Callable[[float], None]], Any],
        progress: TextProgressCallback | None = None,
    ) -> KeptCounts[Counts]:
        """Count the predictions that are not counted yet or have failed, and keep the counts.

        Parameters
        ----------
        predictions : mapping. Kept predictions by subject.
        count : callable. The counts of a prediction as plain values; it is given a function to call with the share
            that is done. Its :class:`~core.errors.UserError` is kept, and the other cases are counted all the same.
        progress : callable, optional. Called with (subjects done, total subjects, id of the current subject).

        Raises
        ------
        RunError
            If a file cannot be written.
        """
        before = self.read(predictions)
        waiting = [*before.missing, *before.failures]
        for number, id in enumerate(waiting):

            def show(share: float, number: int = number, id: str = id) -> None:
                if progress is not None:
                    progress(number + share, len(waiting), id)

            show(0.0)
            kept = predictions[id]
            content: dict[str, Any] = {"version": self.version, "made_at": kept.made_at}
            try:
                content[self.name] = count(kept, show)
            except UserError as error:
                content["failure"] = str(error)
            self._write(kept, content)
        if progress is not None:
            progress(len(waiting), len(waiting), "")
        return self.read(predictions)

    def _path(self, kept: Prediction) -> Path:
        return kept.file.parent / self.name / f"{kept.file.name.removesuffix('.nii.gz')}.json"

    def _read(self, kept: Prediction) -> Counts | str | None:
        """The counts of a prediction, or why there are none; ``None`` where they are not made, or of another one."""
        try:
            content = json.loads(self._path(kept).read_text(encoding="utf-8"))
            if content["version"] != self.version or content["made_at"] != kept.made_at:
                return None
            return str(content["failure"]) if "failure" in content else self.parse(content[self.name])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def _write(self, kept: Prediction, content: Mapping[str, Any]) -> None:
        path = self._path(kept)
        try:
            path.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise RunError(f"{path.parent}: cannot be created: {error.strerror or error}") from error
        files.write_json(path, plain(content))
