"""JSON as strict readers read it."""

from __future__ import annotations

import json
from typing import Any


def loads_strict(text: str) -> Any:
    """Parse JSON; NaN and infinities, which JSON does not have, are errors."""

    def refuse(constant: str) -> float:
        raise AssertionError(f"{constant} in JSON")

    return json.loads(text, parse_constant=refuse)
