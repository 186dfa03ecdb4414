"""The loop of a child process that answers questions, a line of JSON each, so that the one that asks needs no torch."""

from __future__ import annotations

import json
import select
import sys
from collections.abc import Callable
from typing import Any

from core.errors import UserError

IDLE_S = 120.0


def serve(answer: Callable[[dict[str, Any]], dict[str, Any]], failure: str, idle_s: float = IDLE_S) -> None:
    """Answer questions from standard input until its end, or until none has come for a time.

    Each reply is a line ``{"answer": {...}}``, or ``{"error": "..."}`` where the answer raises.

    Parameters
    ----------
    answer : callable. Takes a question.
    failure : str. Begin of the message for an error that is not the user's.
    idle_s : float. Longest time without a question.
    """

    def reply(question: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"answer": answer(question)}
        except UserError as error:
            return {"error": str(error)}
        except Exception as error:  # noqa: BLE001 - of any network, whose code may be the user's
            return {"error": f"{failure}: {type(error).__name__}: {error}"}

    while select.select([sys.stdin], [], [], idle_s)[0] and (line := sys.stdin.readline()):
        sys.stdout.write(json.dumps(reply(json.loads(line))) + "\n")
        sys.stdout.flush()
