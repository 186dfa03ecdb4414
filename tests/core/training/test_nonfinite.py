"""A non-finite loss or gradient ends training, and its cause is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from core.checkpointing.checkpoint import load
from core.training.nonfinite import NonFiniteLossError
from core.training.trainer import fit
from tests.support.balls import tiny, training_subjects
from tests.support.training_tasks import checkpoint_tensors, make_task


@pytest.mark.slow
def test_subject_with_nonfinite_intensities_is_named(tmp_path: Path) -> None:
    subjects = training_subjects(4)
    subjects[2].image[:] = float("nan")
    with pytest.raises(NonFiniteLossError, match=r"step \d+ \(epoch 1\): sub-volume at voxel .* of ball-2 has values"):
        fit(make_task(tmp_path, tiny(epochs=1), subjects), lambda event: None)
    assert not (tmp_path / "last.safetensors").exists() or load(tmp_path / "last.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nonfinite_loss_ends_training_and_keeps_the_last_finite_checkpoint(tmp_path: Path, bad: float) -> None:
    work = make_task(tmp_path, tiny(epochs=4, whole_every=0, checkpoint_minutes=0.01))
    steps = iter(range(1, 1000))

    def poison(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor | None:
        return output * bad if module.training and next(steps) == 12 else None

    work.model.register_forward_hook(poison)
    with pytest.raises(NonFiniteLossError, match=r"step 12 .*learning_rate"):
        fit(work, lambda event: None)
    last = load(tmp_path / "last.safetensors", training_state=True)
    assert 8 <= last.metadata.progress["step"] < 12, "the end of the first epoch, or later where steps are slow"
    assert all(torch.isfinite(v).all() for v in checkpoint_tensors(tmp_path / "last.safetensors").values())
    assert all(torch.isfinite(p).all() for p in work.model.parameters()), "the failed step did not reach the weights"
