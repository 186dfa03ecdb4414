"""The bar under a question's number: choose a side, say how sure, go on; by mouse and by keyboard.

Everything up to the answer happens in the browser, which knows nothing but the number of the question.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from core.study.questions import SURE, Side

_HERE = Path(__file__).parent
KEY = "quiz_bar"
SIDES: tuple[Side, Side] = ("left", "right")

_mount = st.components.v2.component(
    "segmentarium_quiz_bar",
    html='<div class="root"></div>\n',
    css=(_HERE / "bar.css").read_text(encoding="utf-8"),
    js=(_HERE / "bar.js").read_text(encoding="utf-8"),
)


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
    return (side, sure) if side in SIDES and type(sure) is int and sure in SURE else None


def _draw(data: dict[str, Any]) -> Any:
    return _mount(key=KEY, data=data, on_answer_change=_nothing, on_next_change=_nothing)


def _nothing() -> None:
    """The page looks at what came back."""
