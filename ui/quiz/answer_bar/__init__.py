"""The bar under a question's number: choose a side, say how sure, go on; by mouse and by keyboard.

Everything up to the answer happens in the browser, which knows nothing but the number of the question.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.study.questions import CONFIDENCE_LEVELS, Side
from ui.shared.component import component

KEY = "quiz_bar"
SIDES: tuple[Side, Side] = ("left", "right")

_mount = component("quiz_bar", Path(__file__).parent, ("bar.js",), ("bar.css",))


def ask(number: int, attempt: int = 0) -> tuple[Side, int] | None:
    """Draw the bar for an open question; returns the side that was chosen and how sure (1 to 4), once it was.

    ``attempt`` counts the answers that could not be kept: with another number the reader can answer again.
    """
    given = _draw({"number": number, "attempt": attempt, "told": None}).answer
    return read_answer(given, number, attempt)


def tell(number: int, right: bool, verdict: str, why: str, last: bool) -> bool:
    """Draw the bar for an answered question; returns whether the reader goes on."""
    told = {"right": right, "verdict": verdict, "why": why, "last": last}
    given = _draw({"number": number, "told": told}).next
    return isinstance(given, Mapping) and given.get("number") == number


def read_answer(given: Any, number: int, attempt: int) -> tuple[Side, int] | None:
    """What the browser sent, if it is an answer to that question, given after the last failure."""
    if not isinstance(given, Mapping) or (given.get("number"), given.get("attempt")) != (number, attempt):
        return None
    side, sure = given.get("side"), given.get("sure")
    return (side, sure) if side in SIDES and type(sure) is int and sure in CONFIDENCE_LEVELS else None


def _draw(data: dict[str, Any]) -> Any:
    return _mount(key=KEY, data=data, on_answer_change=_nothing, on_next_change=_nothing)


def _nothing() -> None:
    """The page looks at what came back."""
