"""The accuracy benchmark without trainings: cases that are left, what each trains on, tables of the results."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from benchmarks import accuracy, write_tables
from benchmarks.accuracy_runs import Case, Measuring
from benchmarks.result_file import ResultFile
from core.config_data import NO_FOLD
from core.datasets import open_dataset
from core.datasets.splits import split_subjects
from core.models import MODELS
from tests.support.heads import write_heads


def result(case: Case, dice: float, **more: Any) -> dict[str, Any]:
    """What a measurement of a case would be."""
    cost = {"parameters": 1000, "gflop": 1.5, "ms": 20.0, "memory_mb": 64}
    scores = {"dice": {"a": dice, "b": dice}, "spread": {"a": 0.01, "b": None}, "mean_dice": dice, "subjects": 16}
    facts = {n: getattr(case, n) for n in ("suite", "label", "data", "preset", "minutes", "fold", "folds", "seed")}
    return {**facts, "machine": "a machine", **cost, **scores, **more}


@pytest.fixture
def file(tmp_path: Path) -> ResultFile:
    return ResultFile(tmp_path / "results.json")


def left(file: ResultFile, *, again: bool = False, suites: tuple[str, ...] = ("networks",)) -> list[str]:
    """Keys of the cases that are left to measure."""
    args = argparse.Namespace(only=suites, scale=1.0, labels=None, again_failed=again)
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
    assert "| vnet | 0.8820 | 0.8920 | 0.9020 | 0.8920 ± 0.0082 |" in write_tables.best_networks(file)[2]
    _, _, row, _, note = write_tables.auto(file)
    assert row == "| hippocampus, 1 min, 0 | 0.8701 | 0.8500 | 0.8731 | – | – | -0.0030 (missed) |"
    assert "3 of 3 with budgets as numbers of steps of an idle machine" in note
    assert write_tables.losses(file) == ["Not measured yet."]


def test_tables_in_the_documents_are_those_of_the_results() -> None:
    file = ResultFile(accuracy.OUT)
    for name in write_tables.FILES:
        text = (write_tables.ROOT / name).read_text()
        assert write_tables.BLOCK.search(text), name
        assert write_tables.fill(text, file) == text, f"{name}: python benchmarks/write_tables.py"
    assert len((write_tables.ROOT / "README.md").read_text().splitlines()) <= 150
