"""Settings of a sweep: files of earlier versions, and the numbers that help and documentation state."""

from __future__ import annotations

import json

from core.fields import specs_of
from core.paths import project_root
from core.sweeps.settings import (
    ASHA_PERCENT,
    ASHA_SHARE,
    GRID_LEVELS,
    MEDIAN_TRIALS,
    OPTUNA,
    STARTUP_TRIALS,
    SweepOptions,
    SweepSettings,
)
from core.sweeps.space import parse_space

WORDS = {3: "three", 4: "four", 5: "five", 6: "six", 8: "eight", 10: "ten"}


def test_settings_are_kept_as_json_and_read_by_their_earlier_names() -> None:
    options = SweepOptions(7, "grid", "asha", 3)
    full = SweepSettings(
        parse_space(["channels=8x16,16x32", "learning_rate=1e-4:1:log"]), options, True, "it failed", True, "run-1", 4
    )
    data = json.loads(json.dumps(full.to_json()))
    assert SweepSettings.from_json(data) == full
    earlier = {"pending_run": "making", "failures_ignored_before": "forgiven"}
    assert SweepSettings.from_json({earlier.get(name, name): value for name, value in data.items()}) == full


def test_help_and_documentation_state_the_numbers_that_are_used() -> None:
    page = (project_root() / "docs" / "sweeps.md").read_text()
    assert f"after {WORDS[STARTUP_TRIALS]} trials" in page and f"{WORDS[GRID_LEVELS]} values of a range" in page
    assert f"\n{WORDS[MEDIAN_TRIALS]} trials have finished by then" in page
    assert f"after {ASHA_PERCENT} % of training only the best {ASHA_SHARE} of" in page
    (pruner,) = (spec for spec in specs_of(SweepOptions, "") if spec.name == "pruner")
    assert f"only the best {ASHA_SHARE} goes on after {ASHA_PERCENT} % of training" in pruner.help
    assert (ASHA_PERCENT, ASHA_SHARE) == ("10, 30 and 90", "third")


def test_the_command_for_a_missing_optuna_is_the_requirement() -> None:
    assert OPTUNA in (project_root() / "requirements.txt").read_text().splitlines()
