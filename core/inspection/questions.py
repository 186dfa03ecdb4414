"""The loop of a child process that answers questions, a line of JSON each, so that the one that asks needs no torch."""

from __future__ import annotations

import json
import select
import sys
from collections.abc import Callable
from typing import Any, TextIO

from core.errors import UserError

IDLE_S = 120.0


def serve(
    answer: Callable[[dict[str, Any]], dict[str, Any]],
    failure: str,
    answers: TextIO | None = None,
    idle_s: float = IDLE_S,
) -> None:
    """Answer questions from standard input until its end, or until none has come for a time.

    Each reply is a line ``{"answer": {...}}``, or ``{"error": "..."}`` where the answer raises.

    Parameters
    ----------
    answer : callable. Takes a question.
    failure : str. Begin of the message for an error that is not the user's.
    answers : text file, optional. Receives the replies; standard output by default.
    idle_s : float. Longest time without a question.
    """

    def reply(question: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"answer": answer(question)}
        except UserError as error:
            return {"error": str(error)}
        except Exception as error:  # noqa: BLE001 - of any network, whose code may be the user's
            return {"error": f"{failure}: {type(error).__name__}: {error}"}

    receiver = answers or sys.stdout
    while select.select([sys.stdin], [], [], idle_s)[0] and (line := sys.stdin.readline()):
        receiver.write(json.dumps(reply(json.loads(line))) + "\n")
        receiver.flush()
