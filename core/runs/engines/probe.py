"""Probe of an engine: reports host, Python, torch and GPUs of the machine on which a job is started.

The job runs ``python -m core.runs.engines.probe ROOT FILE``.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path

from core.hosts import host_name
from core.runs.store import folder as files


def main(root: Path, found: Path) -> int:
    """Write host, Python, torch and its GPUs to a JSON file; returns the exit status.

    Parameters
    ----------
    root : Path. Checkpoints root, which the machine should see under this path.
    found : Path. The file, in the root.
    """
    facts = {"host": host_name(), "python": platform.python_version(), "root": root.is_dir()}
    facts |= {"torch": "", "gpus": 0, "problem": ""}
    try:
        import torch

        facts |= {"torch": torch.__version__, "gpus": torch.cuda.device_count() if torch.cuda.is_available() else 0}
    except ImportError as error:
        facts["problem"] = f"torch cannot be imported there: {error}; set `setup` or `python`"
    files.write_json(found, facts)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
