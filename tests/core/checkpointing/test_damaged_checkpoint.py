"""Damaged files, files of other formats, and invalid metadata or tensors are refused."""

from __future__ import annotations

import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from core.checkpointing.checkpoint import load
from core.checkpointing.metadata import ENSEMBLE_VERSION, read_metadata
from core.config import TrainConfig
from core.errors import CheckpointError
from tests.support.checkpoint_files import SMALL, at_most, forge, trained

# --- files of other formats ------------------------------------------------------------------------------------------


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def _pth(path: Path, mark: Path) -> None:
    torch.save({"state_dict": trained().model, "trap": Trap(mark)}, path)


NO_CHECKPOINTS: dict[str, Callable[[Path, Path], object]] = {
    "missing": lambda path, mark: None,
    "folder": lambda path, mark: path.mkdir(),
    "empty": lambda path, mark: path.write_bytes(b""),
    "garbage": lambda path, mark: path.write_bytes(random.Random(0).randbytes(5000)),
    "text": lambda path, mark: path.write_text("version https://git-lfs.github.com/spec/v1\n" * 3, "utf-8"),
    "pickle": lambda path, mark: path.write_bytes(pickle.dumps({"state_dict": Trap(mark)})),
    "pth": _pth,
    "foreign": lambda path, mark: save_file({"weight": torch.ones(3)}, str(path)),
    "foreign with metadata": lambda path, mark: save_file({"weight": torch.ones(3)}, str(path), {"format": "pt"}),
}


@pytest.mark.parametrize("kind", NO_CHECKPOINTS)
def test_files_of_other_formats_are_refused_and_not_executed(kind: str, tmp_path: Path) -> None:
    path, mark = tmp_path / "best.safetensors", tmp_path / "mark"
    NO_CHECKPOINTS[kind](path, mark)
    for read in (load, read_metadata):
        with pytest.raises(CheckpointError) as caught:
            read(path)
        assert str(path) in str(caught.value)
    assert not mark.exists()


def test_unpickling_the_test_file_executes_its_code(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Trap(tmp_path / "mark")))
    assert (tmp_path / "mark").exists()


def test_truncated_file_is_refused(saved: Path) -> None:
    whole = saved.read_bytes()
    header = int.from_bytes(whole[:8], "little")
    for length in (1, 7, 8, 9, 8 + header // 2, 8 + header, len(whole) // 2, len(whole) - 1):
        saved.write_bytes(whole[:length])
        for read in (load, read_metadata):
            with pytest.raises(CheckpointError, match=f"{saved} is not a checkpoint.*damaged"):
                read(saved)


@pytest.mark.slow
def test_flipped_bits_in_the_header_raise_only_checkpoint_errors(saved: Path) -> None:
    whole = saved.read_bytes()
    header = int.from_bytes(whole[:8], "little")
    generator = random.Random(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(generator.randint(1, 3)):
            damaged[generator.randrange(8 + header)] ^= 1 << generator.randrange(8)
        saved.write_bytes(damaged)
        try:
            load(saved, training_state=True)
        except CheckpointError as error:
            assert str(saved) in str(error)
            refused += 1
    assert refused > 150


# --- invalid metadata -------------------------------------------------------------------------------------------------

DAMAGED = ("", "{", "[]", "null", "[" * 100_000, '{"version": 1e999}', '{"version": 1}')

INVALID: dict[str, tuple[dict[str, Any], str]] = {
    "newer": (
        {"version": ENSEMBLE_VERSION + 1, "novelty": 1},
        rf"format {ENSEMBLE_VERSION + 1}, this program reads up to",
    ),
    "newer configuration": ({"config": {"version": 99}}, "expected configuration version 1 or older, got 99"),
    "no configuration": ({"config": None}, "config is not a dict"),
    "other configuration": ({"config": {"version": 1, "colour": {}}}, "expected the sections .* got 'colour'"),
    "unknown field": ({"novelty": 1}, "novelty"),
    "unknown network": ({"config": {"version": 1, "model": {"model": "resnet"}}}, "model: expected one of"),
    "no modalities": ({"modalities": []}, "no modalities"),
    "modalities as text": ({"modalities": "T1"}, "modalities is not a list"),
    "one class": ({"labels": [{"name": "air", "colour": "#000000", "raw": 0}]}, "2 to 255 classes"),
    "labels as numbers": ({"labels": [1, 2, 3]}, "expected a list of {name, colour, raw}"),
    "infinite label": ({"labels": [{"name": "a", "colour": "#000000", "raw": float("inf")}] * 3}, "expected a list of"),
    "progress as list": ({"progress": []}, "progress is not a dict"),
    "two sizes": ({"spacing_mm": [1, 1]}, "metadata are damaged"),
    "no size": ({"spacing_mm": [1, 1, 0]}, "spacing_mm"),
    "infinite size": ({"spacing_mm": [1, 1, float("inf")]}, "spacing_mm"),
    "large size": ({"spacing_mm": [1, 1, 10**400]}, "metadata are damaged"),
}


@pytest.mark.parametrize("text", DAMAGED, ids=range(len(DAMAGED)))
def test_damaged_metadata_are_refused(text: str, saved: Path) -> None:
    forge(saved, text=text)
    for read in (load, read_metadata):
        with pytest.raises(CheckpointError, match=f"{saved}: its metadata are damaged"):
            read(saved)


@pytest.mark.parametrize("kind", INVALID)
def test_invalid_metadata_are_refused(kind: str, saved: Path) -> None:
    changes, message = INVALID[kind]
    forge(saved, metadata=lambda metadata: metadata.update(changes))
    with pytest.raises(CheckpointError, match=message) as caught:
        load(saved, training_state=True)
    assert str(caught.value).count(str(saved)) == 1


@pytest.mark.parametrize(
    "values",
    [
        {"channels": (2, 8)},
        {"channels": (2, 4, 8)},
        {"channels": (4096,) * 8},
        {"channels": (4096,) * 8, "model": "vnet"},
        {"norm": "instance"},
        {"activation": "prelu"},
    ],
)
def test_metadata_of_another_network_are_refused_without_allocating_it(values: dict[str, Any], saved: Path) -> None:
    claimed = TrainConfig().with_values({**SMALL, **values}).to_json()
    forge(saved, metadata=lambda metadata: metadata.update(config=claimed))
    with at_most(seconds=5, megabytes=60), pytest.raises(CheckpointError, match=f"{saved}: expected"):
        load(saved, training_state=True)


# --- invalid tensors --------------------------------------------------------------------------------------------------


def _renamed(old: str, new: str) -> Callable[[dict[str, Tensor]], object]:
    return lambda tensors: tensors.update({new: tensors.pop(old)})


def _instead(name: str, tensor: Tensor) -> Callable[[dict[str, Tensor]], object]:
    return lambda tensors: tensors.update({name: tensor})


BIAS = "classifier.bias"  # three values
STRANGE: dict[str, tuple[Callable[[dict[str, Tensor]], object], str]] = {
    "wrong shape": (_instead(f"model/{BIAS}", torch.ones(4)), r"of shape \(3,\), F32; found \(4,\), F32"),
    "wrong axes": (_instead(f"average/{BIAS}", torch.ones(3, 1)), r"of shape \(3,\), F32; found \(3, 1\), F32"),
    "wrong type": (_instead(f"model/{BIAS}", torch.ones(3, dtype=torch.float64)), r"F32; found \(3,\), F64"),
    "whole numbers": (_instead(f"model/{BIAS}", torch.ones(3, dtype=torch.long)), r"F32; found \(3,\), I64"),
    "missing": (lambda tensors: tensors.pop(f"model/{BIAS}"), f"tensors of its model, but {BIAS} do not match"),
    "missing average": (lambda tensors: tensors.pop(f"average/{BIAS}"), f"tensors of its average, but {BIAS} do not"),
    "renamed": (_renamed(f"model/{BIAS}", "model/Bias"), f"tensors of its model, but Bias, {BIAS} do not match"),
    "extra": (_instead("model/more", torch.ones(1)), "tensors of its model, but more do not match"),
    "extra group": (_instead("surprise/more", torch.ones(1)), "expected tensors named .* found surprise/more"),
    "no group": (_instead("more", torch.ones(1)), "expected tensors named .* found more"),
    "no model": (
        lambda tensors: [tensors.pop(name) for name in list(tensors) if name.startswith("model/")],
        "expected the tensors of its model",
    ),
}
STRANGE_STATE: dict[str, tuple[Callable[[dict[str, Tensor]], object], str]] = {
    "shape": (_instead("optimizer/0/exp_avg", torch.ones(9)), r"optimizer/0/exp_avg of shape \(\) or .* found \(9,\)"),
    "type": (_instead("optimizer/0/step", torch.tensor(1)), r"optimizer/0/step .* found \(\), I64"),
    "another's": (_renamed("optimizer/0/exp_avg", "optimizer/1/exp_avg"), "optimizer/1/exp_avg of shape"),
    "beyond": (_instead("optimizer/999/exp_avg", torch.ones(1)), "optimizer/999/exp_avg belongs to none"),
    "no number": (_instead("optimizer/first/exp_avg", torch.ones(1)), "optimizer/first/exp_avg belongs to none"),
    "superscript": (_instead("optimizer/²/exp_avg", torch.ones(1)), "optimizer/²/exp_avg belongs to none"),
    "long number": (_instead(f"optimizer/{'9' * 5000}/x", torch.ones(1)), "belongs to none"),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_tensors_of_another_network_are_refused(kind: str, saved: Path) -> None:
    change, message = STRANGE[kind]
    forge(saved, tensors=change)
    with pytest.raises(CheckpointError, match=message) as caught:
        load(saved)
    assert str(caught.value).startswith(str(saved))


@pytest.mark.parametrize("kind", STRANGE_STATE)
def test_optimizer_tensors_without_a_parameter_are_refused(kind: str, saved: Path) -> None:
    change, message = STRANGE_STATE[kind]
    forge(saved, tensors=change)
    load(saved)  # inference does not read the optimizer
    with pytest.raises(CheckpointError, match=message) as caught:
        load(saved, training_state=True)
    assert str(caught.value).startswith(str(saved))
