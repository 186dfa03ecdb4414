"""The accuracy benchmark without trainings: cases that are left, what each trains on, tables of the results."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import accuracy, write_tables
from benchmarks.accuracy_runs import TRAINED_BY, Case, Measuring
from benchmarks.result_file import ResultFile, program_name
from core.config_data import NO_FOLD
from core.datasets import open_dataset
from core.datasets.splits import split_subjects
from core.models import MODELS
from tests.support.heads import write_heads
from tests.support.run_folders import make_run


def result(case: Case, dice: float, **more: Any) -> dict[str, Any]:
    """What a measurement of a case would be."""
    scores = {"dice": {"a": dice, "b": dice}, "spread": {"a": 0.01, "b": None}, "mean_dice": dice, "subjects": 16}
    return {**facts(case), "ms": 20.0, **scores, **more}


def cost(case: Case, **more: Any) -> dict[str, Any]:
    """What a measurement of the cost of a network would be."""
    values = {"parameters": 1000, "gflop": 1.5, "ms": 20.0, "memory_mb": 64.2, "estimated_memory_mb": 60.0}
    settings = {"settings": {"sub_volume": [32, 32, 32]}, "batch": 1, "precision": "bf16"}
    return {**facts(case), **values, **settings, **more}


def facts(case: Case) -> dict[str, Any]:
    names = ("suite", "label", "data", "preset", "minutes", "fold", "folds", "seed")
    where = {"machine": "machine A", "program": "v1", "date": "2026-11-28", "load": 2.9, "cores": 2}
    return {n: getattr(case, n) for n in names} | where


@pytest.fixture
def file(tmp_path: Path) -> ResultFile:
    return ResultFile(tmp_path / "results.json")


def left(file: ResultFile, *, again: bool = False, suites: tuple[str, ...] = ("networks",)) -> list[str]:
    """Keys of the cases that are left to measure."""
    args = argparse.Namespace(only=suites, scale=1.0, labels=None, again=False, again_failed=again)
    measuring = Measuring({"hippocampus": "H", "demo": "D"}, Path("work"), file)
    return [case.key for case in accuracy.missing(measuring, args, set())]


def test_what_is_in_the_file_is_not_measured_again_and_the_best_go_on(file: ResultFile) -> None:
    assert len(left(file)) == len(MODELS), "one fold of each"
    for position, name in enumerate(MODELS):
        case = next(c for c in accuracy.networks(file, 1.0) if c.label == name and c.fold == 0)
        file.add(case.key, result(case, position / 100) if position else {"suite": "networks", "error": "no memory"})
    again = ResultFile(file.path)
    best = sorted(MODELS, key=list(MODELS).index, reverse=True)[: accuracy.BEST]
    expected = [key for name in best for key in left(again) if f"/{name}/" in key]
    assert sorted(left(again)) == sorted(expected) and len(expected) == 3 * accuracy.BEST, "two folds and the demo data"
    assert len(left(again, again=True)) == 1 + 3 * accuracy.BEST, "the failed one too"


def test_preset_that_lay_far_behind_has_no_longer_budget(file: ResultFile) -> None:
    first = left(file, suites=("auto",))
    assert first == [case.key for case in accuracy.auto_cases("hippocampus", 1.0, 0)], "what decides about the others"
    scores = {"auto": 0.6, "quick": 0.85, "fast": 0.87, "thorough": 0.7}
    for fold in (0, 1):
        for case in accuracy.auto_cases("hippocampus", 1.0, fold):
            dice = scores.get(case.label)
            file.add(case.key, {**facts(case), "error": "no memory"} if dice is None else result(case, dice))
    three = [key for key in left(file, suites=("auto",)) if "hippocampus" in key]
    assert [key.split("/")[2] for key in three if "fold 0" in key] == ["auto", "quick", "fast", "thorough", "article"]
    scores |= {"quick": 0.81, "fast": 0.88, "thorough": 0.835, "article": 0.5}
    for case in accuracy.auto_cases("hippocampus", 3.0, 0):
        file.add(case.key, result(case, scores[case.label]))
    ten = [key for key in left(file, suites=("auto",)) if "hippocampus" in key and "/10 min/fold 1" in key]
    assert [key.split("/")[2] for key in ten] == ["auto", "fast", "thorough"], "auto always"
    for case in accuracy.auto_cases("hippocampus", 10.0, 0):
        if case.key in left(file, suites=("auto",)):
            file.add(case.key, result(case, {"auto": 0.89, "fast": 0.88, "thorough": 0.865}[case.label]))
    thirty = [key for key in left(file, suites=("auto",)) if "/30 min/" in key]
    assert [key.split("/")[2] for key in thirty] == ["auto", "fast"]
    row = next(line for line in write_tables.auto(file) if line.startswith("| hippocampus, 10 min, 0"))
    assert row == "| hippocampus, 10 min, 0 | 0.8900 | behind | 0.8800 | 0.8650 | behind | +0.0100 |"
    assert "Behind: not measured" in write_tables.auto(file)[-1]


@pytest.mark.slow
def test_refit_and_ensemble_never_train_on_what_they_are_scored_on(tmp_path: Path, file: ResultFile) -> None:
    write_heads(tmp_path / "heads", 10)
    measuring = Measuring({"hippocampus": str(tmp_path / "heads")}, tmp_path / "work", file)
    ids = open_dataset(tmp_path / "heads").labelled_ids
    scored: list[str] = []
    for fold in range(5):
        (refit,) = measuring._configs(Case("refit", "auto", "hippocampus", "auto", 10.0, fold))
        members = measuring._configs(Case("ensemble", "auto", "hippocampus", "auto", 10.0, fold))
        splits = [split_subjects(ids, config.split) for config in (refit, *members)]
        assert refit.split.fold == NO_FOLD and len(members) == 5
        assert {split.test for split in splits} == {splits[0].test}
        assert all(not set(split.test) & {*split.train, *split.val} for split in splits)
        assert sorted(id for split in splits[1:] for id in split.val) == sorted(set(ids) - set(splits[0].test))
        scored += splits[0].test
    assert sorted(scored) == sorted(ids)


@pytest.mark.slow
def test_a_budget_becomes_the_steps_of_an_idle_machine(
    tmp_path: Path, file: ResultFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_heads(tmp_path / "heads", 5)
    measuring = Measuring({"hippocampus": str(tmp_path / "heads")}, tmp_path / "work", file, in_steps=True)
    monkeypatch.setattr(measuring, "_calibrated", lambda config: 10.0)
    values = (("whole_every", 0), ("samples_train", 50))
    (config,) = measuring._configs(Case("auto", "fast", "hippocampus", "fast", 2.0, values=values))
    final = measuring._final(config)
    # 95 % of two minutes at 10 sub-volumes a second are 1,140, in epochs of 50.
    assert (final.run.minutes, final.run.epochs, final.sampling.samples_train) == (0.0, 23, 50)
    changed = {n for n, value in final.values().items() if value != config.values()[n]}
    assert changed == {"minutes", "epochs"}


@pytest.mark.slow
def test_speed_is_measured_once_for_trainings_whose_steps_take_the_same_time(
    tmp_path: Path, file: ResultFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_heads(tmp_path / "heads", 5)
    measuring = Measuring({"hippocampus": str(tmp_path / "heads")}, tmp_path / "work", file, in_steps=True)
    trained: list[str] = []

    def run(command: list[str], undisturbed: bool = False) -> Path:
        assert undisturbed
        trained.append(command[command.index("--preset") + 1])
        return tmp_path

    monkeypatch.setattr(measuring, "_run", run)
    monkeypatch.setattr(measuring, "_speeds", lambda run: [20.0, 25.0, 24.0])
    for values in ((), (("mirror", True),), (("ema", 0.5), ("fold", 2))):
        measuring.calibrate(Case("auto", "fast", "hippocampus", "fast", 2.0, values=values))
    assert trained == ["fast"] and list(file.calibrations.values()) == [24.0]
    measuring.calibrate(Case("auto", "fast", "hippocampus", "fast", 2.0, values=(("channels", (8, 16)),)))
    measuring.calibrate(Case("costs", "unet3d", "", "", 0.0))
    assert len(trained) == 2 == len(file.calibrations)


def test_tables_are_sorted_and_say_what_was_missed(file: ResultFile) -> None:
    for name, dice in (("unet3d", 0.871), ("vnet", 0.882)):
        for fold in range(3):
            case = Case("networks", name, "hippocampus", "auto", 3.0, fold)
            file.add(case.key, result(case, dice + fold / 100))
    trial = Case("networks", "med3d", "hippocampus", "auto", 0.03)
    file.add(trial.key, result(trial, 0.99))
    for name, dice in (("auto", 0.8701), ("fast", 0.8731), ("quick", 0.85)):
        case = Case("auto", name, "hippocampus", name, 1.0, 0)
        file.add(case.key, result(case, dice, in_steps=True))
    names = [line.split(" | ")[0].strip("| ") for line in write_tables.networks(file)[2:4]]
    assert names == ["vnet", "unet3d"], "the best first, no trial"
    assert "0.8820 ± 0.010 | 0.8820 | 0.8820 |" in write_tables.networks(file)[2]
    assert "| vnet | 0.8820 | 0.8920 | 0.9020 | 0.8920 ± 0.0100 |" in write_tables.best_networks(file)[2]
    _, _, row, _, note = write_tables.auto(file)
    assert row == "| hippocampus, 1 min, 0 | 0.8701 | 0.8500 | 0.8731 | – | – | – |", "not beside two of four"
    for name in ("thorough", "article"):
        case = Case("auto", name, "hippocampus", name, 1.0, 0)
        file.add(case.key, {**facts(case), "error": "not enough memory"})
    _, _, row, _, note = write_tables.auto(file)
    assert row == "| hippocampus, 1 min, 0 | 0.8701 | 0.8500 | 0.8731 | – | – | -0.0030 (missed) |"
    assert "thorough failed: not enough memory." in note and "3 of 70 measured, the rest not yet" in note
    assert "3 of 3 with budgets as steps of an idle machine" in note
    assert write_tables.losses(file) == ["Not measured yet."]


def test_costs_are_shown_before_any_accuracy_and_what_is_missing_is_counted(file: ResultFile) -> None:
    assert write_tables.networks_short(file) == [], "nothing in the README before there is something"
    for name in ("unet3d", "vnet", "med3d"):
        (case,) = (c for c in accuracy.costs(file, 1.0) if c.label == name)
        file.add(case.key, cost(case, **({"machine": "machine B"} if name == "vnet" else {})))
    failed = Case("costs", "mednext", "", "", 0.0)
    file.add(failed.key, {**facts(failed), "error": "needs monai"})
    short = write_tables.networks_short(file)
    assert [line for line in short if "| unet3d |" in line] == ["| unet3d | 1,000 | 20 | 64 MB | – |"]
    assert f"Steps: 3 of {len(MODELS)} measured, the rest not yet. mednext failed: needs monai." in short[-1]
    assert "A step at 32x32x32, batch 1, in bf16" in short[-1]
    assert "On machine A; v1, 2026-11-28. On machine B; v1, 2026-11-28 (vnet)." in short[-1]
    assert write_tables.costs(file)[2] == "| unet3d | 1,000 | 1.5 | 20 | 64 MB | 60 MB |"
    case = Case("networks", "vnet", "hippocampus", "auto", 3.0)
    file.add(case.key, result(case, 0.88, channels=[16, 32, 64, 128, 256]))
    short = write_tables.networks_short(file)
    rows = [line for line in short if line.startswith("| ") and "MB" in line]
    assert rows[0] == "| vnet | 1,000 | 20 | 64 MB | 0.8800 |" and len(rows) == 3, "what has a Dice first"
    assert f"Dice: 1 of {len(MODELS)} measured, the rest not yet. Last checkpoints, whole volumes, n = 16" in short[-1]
    assert "The best of the 1 networks that are measured on fold 0." in write_tables.best_networks(file)[-1]


def test_time_that_was_measured_on_a_busy_machine_is_left_out_and_measured_again(file: ResultFile) -> None:
    for name, load in (("unet3d", 3.1), ("vnet", 3.0)):
        case = Case("costs", name, "", "", 0.0)
        file.add(case.key, cost(case, load=load))
    first, second, *_, note = write_tables.costs(file)[2:]
    assert first == "| unet3d | 1,000 | 1.5 | – | 64 MB | 60 MB |"
    assert second == "| vnet | 1,000 | 1.5 | 20 | 64 MB | 60 MB |"
    assert "1 time is left out, measured while the machine was busy" in note
    args = argparse.Namespace(only=["costs"], scale=1.0, labels=["unet3d"], again=True, again_failed=False)
    measuring = Measuring({}, Path("work"), file)
    (case,) = accuracy.missing(measuring, args, set())
    assert case.label == "unet3d" and not list(accuracy.missing(measuring, args, {case.key}))


def test_widths_that_auto_chose_are_named_beside_the_cost_of_others(file: ResultFile) -> None:
    for name, channels in (("unet3d", [8, 16, 32, 64]), ("vnet", [16, 32, 64, 128, 256])):
        case = Case("networks", name, "hippocampus", "auto", 3.0)
        file.add(case.key, result(case, 0.88, channels=channels))
    note = write_tables.networks(file)[-1]
    assert note.endswith("not those of the cost: unet3d with 8-16-32-64 channels.")


def test_costs_need_no_data_and_a_failed_network_keeps_its_reason(
    file: ResultFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measuring = Measuring({}, tmp_path, file)
    args = argparse.Namespace(only=["costs", "networks"], scale=1.0, labels=None, again=False, again_failed=False)
    cases = list(accuracy.missing(measuring, args, set()))
    assert [case.label for case in cases] == list(MODELS) and {case.suite for case in cases} == {"costs"}
    row = cost(cases[0]) | {"ms_low": 19.0, "ms_high": 21.0, "peak_memory_mb": 64.2, "note": ""}
    reports = [row, row | {"ms": None, "note": "not enough memory"}]
    answers = iter(json.dumps({"rows": [r], "settings": {"sub_volume": [32, 32, 32]}}) for r in reports)
    monkeypatch.setattr(measuring, "_command", lambda words: next(answers))
    kept = measuring.measure(cases[0])
    assert (kept["memory_mb"], kept["estimated_memory_mb"]) == (64.2, 60.0)
    assert kept["command"] == [f"python -m core bench models --networks {cases[0].label} --device auto --json"]
    assert "torch" in kept["machine"] and kept["program"].startswith("Segmentarium 0.") and len(kept["date"]) == 10
    assert measuring.measure(cases[1])["error"] == "not enough memory"
    assert [case.label for case in accuracy.missing(measuring, args, set())] == list(MODELS)[2:]
    assert ResultFile(file.path).results[cases[0].key] == kept


@pytest.mark.slow
def test_command_of_a_training_is_kept_without_folders_of_the_machine(
    file: ResultFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_heads(tmp_path / "heads", 5)
    measuring = Measuring({"hippocampus": str(tmp_path / "heads")}, tmp_path / "work", file)
    monkeypatch.setattr(measuring, "_cost", lambda config: {})
    monkeypatch.setattr(measuring, "_train", lambda config, case: tmp_path)
    monkeypatch.setattr(measuring, "_score", lambda case, runs: {"mean_dice": 0.5})
    (command,) = measuring.measure(Case("networks", "vnet", "hippocampus", "quick", 3.0))["command"]
    assert command.startswith("python -m core train heads --preset quick") and "--minutes 3" in command
    assert str(tmp_path) not in json.dumps(file.results)


@pytest.mark.slow
def test_trainings_of_a_case_that_had_finished_are_not_repeated(
    file: ResultFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_heads(tmp_path / "heads", 5)
    work, case = tmp_path / "work", Case("ensemble", "auto", "hippocampus", "quick", 10.0)
    measuring = Measuring({"hippocampus": str(tmp_path / "heads")}, work, file)
    configs = measuring._configs(case)
    made = [work / make_run(work, "auto", "finished", **config.values()) for config in configs[:2]]
    (made[0] / TRAINED_BY).write_text(program_name())
    (made[1] / TRAINED_BY).write_text("another commit")
    trained: list[str] = []

    def run(command: list[str], undisturbed: bool = False) -> Path:
        trained.append(command[command.index("--fold") + 1] if "--fold" in command else "0")
        return work / make_run(work, "auto", **configs[int(trained[-1])].values())

    monkeypatch.setattr(measuring, "_run", run)
    folders = [measuring._train(config, case) for config in configs]
    assert trained == ["1", "2", "3", "4"] and folders[0] == made[0]
    assert [measuring._train(config, case) for config in configs] == folders and len(trained) == 4
    measuring.again = True
    measuring._train(configs[0], case)
    assert trained[4:] == ["0"]


def test_tables_in_the_documents_are_those_of_the_results() -> None:
    file = ResultFile(accuracy.OUT)
    for name in write_tables.FILES:
        text = (write_tables.ROOT / name).read_text()
        assert write_tables.BLOCK.search(text), name
        assert write_tables.fill(text, file) == text, f"{name}: python benchmarks/write_tables.py"
    assert len((write_tables.ROOT / "README.md").read_text().splitlines()) <= 150


def test_a_difference_that_rounds_to_zero_has_no_minus_and_a_machine_is_named_once(file: ResultFile) -> None:
    for number, case in enumerate(accuracy.auto_cases("hippocampus", 1.0, 0)):
        dice = 0.88 - 1e-5 * (case.label == "auto")
        file.add(case.key, result(case, dice, program="v2" if number == 3 else "v1"))
    *_, row, _, notes = write_tables.auto(file)
    assert row.endswith("| +0.0000 |")
    assert notes.count("machine A") == 1 and "v1, 2026-11-28; v2, 2026-11-28 (thorough)." in notes
