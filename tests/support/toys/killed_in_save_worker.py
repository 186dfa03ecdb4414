"""The real trainer process, which kills itself while it writes its second checkpoint.

``KILL_IN_SAVE`` in the environment: for each attempt, in order, the instant of the kill; later attempts run to their
end. "empty", "half": so much of the temporary file is written; "link": it is complete, and the last checkpoint is about
to get its second name; "rename": the temporary file is about to replace the last checkpoint.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from core.checkpointing.metadata import LAST
from core.runs.processes import worker
from core.runs.store.state import read_state


class KilledInSave:
    """Watches the system calls of :func:`core.checkpointing.checkpoint.save`."""

    def __init__(self, instant: str) -> None:
        self.instant = instant
        self.temporaries: list[str] = []
        self.fsync = os.fsync

    def install(self) -> None:
        vars(os)["fsync"] = self.on_fsync
        sys.addaudithook(self.on_event)

    def on_fsync(self, descriptor: int) -> None:
        name = Path(os.readlink(f"/proc/self/fd/{descriptor}")).name
        if name.startswith(f".{LAST}.") and name.endswith(".tmp"):
            self.temporaries.append(name)
            if self.second_save and self.instant in ("empty", "half"):
                os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2 if self.instant == "half" else 0)
                os.kill(os.getpid(), signal.SIGKILL)
        self.fsync(descriptor)

    def on_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        link = event == "os.link" and self.instant == "link"
        rename = event == "os.rename" and self.instant == "rename" and Path(arguments[1]).name == LAST
        if (link or rename) and self.second_save:
            os.kill(os.getpid(), signal.SIGKILL)

    @property
    def second_save(self) -> bool:
        return len(self.temporaries) == 2


if __name__ == "__main__":
    instants, attempt = os.environ["KILL_IN_SAVE"].split(","), read_state(Path(sys.argv[1])).attempt
    if attempt <= len(instants):
        KilledInSave(instants[attempt - 1]).install()
    sys.exit(worker.run())
