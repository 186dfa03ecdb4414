"""Files of models by what a user types: runs, ensembles, groups, and several of them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from core.config import TrainConfig
from core.errors import RunError
from core.runs.launch import create_run
from core.runs.models import ensemble_key, find_models, list_ensembles
from core.runs.store.groups import FOLDS, Group, Member, write_group


@pytest.fixture
def root(checkpoints: Path) -> Path:
    """Runs a and b+c with checkpoints and d without one; ensembles old and new."""
    for name in ("a", "b+c", "d"):
        folder = create_run(checkpoints, TrainConfig(), name)
        if name != "d":
            (folder / "best.safetensors").write_bytes(b"1")
    (checkpoints / "ensembles").mkdir()
    for number, name in enumerate(("old", "new")):
        path = checkpoints / "ensembles" / f"{name}.safetensors"
        path.write_bytes(b"1")
        os.utime(path, (number, number))
    return checkpoints


def names(root: Path, text: str) -> list[str]:
    """The folders of runs without the date, and the names of ensembles."""
    found = find_models(root, text)
    assert all(path.is_absolute() and path.is_file() for path in found)
    return [path.stem if path.parent.name == "ensembles" else path.parent.name.split("-20")[0] for path in found]


def test_models_are_found_by_name(root: Path) -> None:
    assert names(root, "a") == ["a"]
    assert names(root, "new") == names(root, "ensembles/new") == ["new"]
    assert names(root, str(root / "ensembles" / "new.safetensors")) == ["new"]
    assert [ensemble_key(path) for path in list_ensembles(root)] == ["ensembles/new", "ensembles/old"]


def test_plus_joins_models_unless_it_is_part_of_a_name(root: Path) -> None:
    assert len(find_models(root, "b+c")) == 1
    assert names(root, "a+old + new") == ["a", "old", "new"]


def test_group_stands_for_its_runs(root: Path) -> None:
    runs = [path.parent.name for path in (*find_models(root, "a"), *find_models(root, "b+c"))]
    write_group(root, Group("five-folds", "cross", FOLDS, TrainConfig(), tuple(Member(run) for run in runs)))
    assert [path.parent.name for path in find_models(root, "cross")] == runs
    assert len(find_models(root, "cross+old")) == 3
    shutil.rmtree(root / runs[1])
    with pytest.raises(RunError, match=r"run of each fold, 1 fold of 2 without one.*group five-folds --complete"):
        find_models(root, "cross")


def test_a_name_comes_before_the_beginning_of_an_id(root: Path) -> None:
    """A run called "new-data" is not meant by "new", nor one called "crossing" by the name of a group."""
    for name in ("new-data", "crossing"):
        (create_run(root, TrainConfig(), name) / "best.safetensors").write_bytes(b"1")
    run = find_models(root, "a")[0].parent.name
    write_group(root, Group("five-folds", "cross", FOLDS, TrainConfig(), (Member(run),)))
    assert names(root, "new") == ["new"] and names(root, "new-d") == ["new-data"]
    assert names(root, "cross") == ["a"] and names(root, "crossi") == ["crossing"]
    write_group(root, Group("crossing-folds", "other", FOLDS, TrainConfig(), (Member(run),)))
    with pytest.raises(RunError, match="matches 2 runs and groups"):
        find_models(root, "crossi")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nobody", "expected a checkpoint file or a run"),
        ("a+nobody", "'nobody'"),
        ("a+", "expected a checkpoint file or a run"),
        ("a+d", "it has no checkpoint yet"),
    ],
)
def test_unknown_part_is_named(root: Path, text: str, message: str) -> None:
    with pytest.raises(RunError, match=message):
        find_models(root, text)
