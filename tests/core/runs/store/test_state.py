"""State of a run as its file has it: the JSON, and which states can be stopped."""

from __future__ import annotations

from typing import get_args

import pytest

from core.errors import RunError
from core.runs.store.state import ENDED, STOPPABLE, Best, RunState, State


def test_what_has_not_ended_can_be_stopped_once() -> None:
    assert {*STOPPABLE} == {*get_args(State)} - {*ENDED} - {"stopping"}


def test_state_round_trip_ignores_unknown_fields() -> None:
    state = RunState(
        state="running",
        best=Best(3, 0.5, "whole volumes", 60),
        latest=Best(4, None, "sub-volumes", 70),
        classes=("air", "CSF"),
        facts={"device": "cpu"},
    )
    assert RunState.from_json({**state.to_json(), "of a newer version": 1}) == state
    earlier = {"state": "running", "best": {"epoch": 3, "mean_dice": 0.5, "measured_on": "whole volumes"}}
    assert RunState.from_json(earlier).score == Best(3, 0.5, "whole volumes")  # version 0.2 wrote no more
    with pytest.raises(RunError, match="dancing"):
        RunState.from_json({"state": "dancing"})
