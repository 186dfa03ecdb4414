"""What commands say of runs whose cluster did not answer whether it took them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from core.cli.program import program_name
from core.runs import get_run
from core.runs.hand_over import is_unconfirmed


def report_unconfirmed(root: Path, run_ids: Sequence[str], named: str) -> int:
    """Say on standard error that the submission of runs is not confirmed, and how to try again.

    Parameters
    ----------
    root : Path. Checkpoints root.
    run_ids : sequence of str. Ids of runs that were queued.
    named : str. Id of the run, or of the group of these runs.

    Returns
    -------
    int
        Exit status: 1 if the submission of one is not confirmed, else 0.
    """
    unconfirmed = [run for run in (get_run(root, run_id) for run_id in run_ids) if is_unconfirmed(run)]
    if not unconfirmed:
        return 0
    again = f"{program_name()} runs resume {named}"
    print(f"error: {named}: {unconfirmed[0].state.message}; try again, without a second job: {again}", file=sys.stderr)
    return 1
