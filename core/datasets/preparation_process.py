"""The process that prepares subjects for :mod:`core.datasets.parallel_preparation`, one at a time, and keeps them.

It reads a question a line from standard input, and writes an answer a line to standard output: empty where the subject
is kept, else the reason why not. It ends with its input.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

from core.datasets.layouts.base import Dataset
from core.datasets.prepared_cache import Preparation, PreparedCache
from core.errors import UserError


def question(folder: Path, dataset: Dataset, key: str, preparation: Preparation) -> dict[str, str]:
    """The question for a subject, the only one of the data set, whose entry has a name. The process that asks starts
    the one that answers, over a pipe of their own, so that pickled values can be trusted."""
    work = base64.b64encode(pickle.dumps((dataset, preparation))).decode()
    return {"folder": str(folder), "key": key, "work": work}


def answer(asked: dict[str, str]) -> dict[str, Any]:
    """Prepare a subject and keep it, unless that has been done, or its files change while it is read."""
    dataset, preparation = pickle.loads(base64.b64decode(asked["work"]))  # of the parent process
    cache, key = PreparedCache(Path(asked["folder"])), asked["key"]
    id = dataset.ids[0]
    if cache.open(key, id) is not None:
        return {}
    try:
        prepared = preparation.prepare(dataset, id)
        found = cache.identify(dataset, id, preparation)
        if found is None or found.key != key:
            return {"not_kept": "its files change"}
        cache.add(key, prepared)
    except UserError as error:
        return {"error": str(error), "kind": type(error).__name__}
    except MemoryError:
        return {"not_kept": "memory"}
    except OSError as error:
        return {"unwritable": error.strerror or str(error)}
    return {}


def main() -> int:
    """Answer questions until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin:
        answers.write(json.dumps(answer(json.loads(line))) + "\n")
        answers.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
