"""The bar below the number of a question: choice of a side, confidence, next question; by mouse and by keyboard.

Until the answer is sent the browser has only the number of the question.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from core.study.questions import CONFIDENCE_LEVELS, Side
from ui.shared.component import component

KEY = "quiz_bar"
SIDES: tuple[Side, Side] = ("left", "right")

_mount = component("quiz_bar", Path(__file__).parent, ("bar.js",), ("bar.css",))


@dataclass(frozen=True)
class Verdict:
    """The result of an answer.

    Attributes
    ----------
    correct : bool. Whether the chosen side is the truth.
    text : str. The result in a sentence.
    explanation : str. How truth and prediction differ.
    last : bool. Whether the question is the last one of the game.
    """

    correct: bool
    text: str
    explanation: str
    last: bool


def ask(number: int, attempt: int = 0) -> tuple[Side, int] | None:
    """Render the bar of an open question.

    Parameters
    ----------
    number : int. Number of the question.
    attempt : int. Number of answers that could not be stored; a new value lets the reader answer again.

    Returns
    -------
    tuple of (str, int) or None. Chosen side and confidence (1 to 4); ``None`` until there is an answer.
    """
    answer = _render({"number": number, "attempt": attempt, "verdict": None}).answer
    return parse_answer(answer, number, attempt)


def show_verdict(number: int, verdict: Verdict) -> bool:
    """Render the bar of an answered question; whether the reader continues."""
    event = _render({"number": number, "verdict": asdict(verdict)}).next
    return isinstance(event, Mapping) and event.get("number") == number


def parse_answer(answer: Any, number: int, attempt: int) -> tuple[Side, int] | None:
    """Side and confidence from the browser; ``None`` if the value is invalid or is of another question or attempt."""
    if not isinstance(answer, Mapping) or (answer.get("number"), answer.get("attempt")) != (number, attempt):
        return None
    side, confidence = answer.get("side"), answer.get("confidence")
    if side not in SIDES or type(confidence) is not int or confidence not in CONFIDENCE_LEVELS:
        return None
    return side, confidence


def _render(data: dict[str, Any]) -> Any:
    return _mount(key=KEY, data=data, on_answer_change=_no_callback, on_next_change=_no_callback)


def _no_callback() -> None:
    """Registers an event; the page reads its value."""
