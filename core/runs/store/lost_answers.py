"""Record of quiz answers that were lost with a damaged database: a file beside it, which pages and reports read."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

from core.errors import RunError
from core.formatting import format_count
from core.runs.store import folder as files
from core.runs.store.database import database_url, is_shared

SUFFIX = ".lost-answers.json"


@dataclass(frozen=True)
class LostAnswers:
    """Quiz answers that cannot be read any more.

    Attributes
    ----------
    number : int. How many are lost at least.
    games : dict. How many of a game, by its id, of those whose game is known.
    """

    number: int = 0
    games: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        """In words; empty where none is lost."""
        if not self.number:
            return ""
        parts = [f"{lost} of game {game}" for game, lost in self.games.items()]
        if (others := self.number - sum(self.games.values())) > 0 and parts:
            parts.append(f"{others} of games that are not known")
        names = f" ({', '.join(parts)})" if parts else ""
        return f"at least {format_count(self.number, 'answer')}{names}"


def note_lost(damaged: Path, lost: LostAnswers) -> None:
    """Write what was lost with a damaged database beside it; nothing where nothing was."""
    if lost.number:
        files.write_json(damaged.with_name(f"{damaged.name}{SUFFIX}"), asdict(lost), durable=True)


def read_lost(root: Path) -> LostAnswers:
    """What was lost with all damaged databases of a root, so far as they still lie beside its database."""
    if is_shared():
        return LostAnswers()
    database = Path(database_url(root).database or "")
    number, games = 0, Counter[str]()
    for path in sorted(database.parent.glob(f"{database.name}.damaged-*{SUFFIX}")):
        try:
            found = files.read_json(path)
            number += int(found["number"])
            games.update({str(game): int(lost) for game, lost in found["games"].items()})
        except (RunError, KeyError, TypeError, ValueError, AttributeError):
            continue  # not written by this program
    return LostAnswers(number, dict(games))
