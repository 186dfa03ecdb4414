"""Weights of other programs' checkpoints are read bit for bit, and matched by name or by order."""

from __future__ import annotations

import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.checkpointing.checkpoint import SAFETENSORS_DTYPES
from core.checkpointing.foreign_reader import ExpectedTensors, find_state_dict, match_weights
from core.checkpointing.foreign_weights import read_foreign_weights
from core.checkpointing.metadata import is_torch_file
from core.errors import CheckpointError
from core.events import Event, Ready
from core.models.build import build_model
from core.training.experiment import train_run
from tests.support.balls import tiny, write_balls
from tests.support.foreign_networks import network, same


def expected_tensors(model: nn.Module) -> ExpectedTensors:
    return {name: (tuple(t.shape), SAFETENSORS_DTYPES[t.dtype]) for name, t in model.state_dict().items()}


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors in the same order under other names."""
    return {f"layer{n:03d}.{name.rpartition('.')[2]}": tensor for n, (name, tensor) in enumerate(state.items())}


def optimizer_state(model: nn.Module) -> dict[str, Any]:
    optimizer = torch.optim.Adam(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return optimizer.state_dict()


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
def test_weights_are_read_bit_for_bit(tmp_path: Path, zipped: bool) -> None:
    """From a file as MedicalZooPytorch writes it, through the child process."""
    source, path = network(1), tmp_path / "UNet3D_BEST.pth"
    optimizer = optimizer_state(source)
    state = source.state_dict()
    kernel = next(t for t in state.values() if t.ndim == 5)
    with torch.no_grad():
        kernel.view(-1)[:5] = torch.tensor([float("nan"), float("-inf"), -0.0, 1e-45, 3.4e38])
    content = {"model_state_dict": state, "optimizer_state_dict": optimizer, "epoch": 9}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert zipfile.is_zipfile(path) == zipped and is_torch_file(path)
    target = network(2)
    before = {k: v.clone() for k, v in target.state_dict().items()}
    found = read_foreign_weights(path, target)
    assert not found.in_order
    assert same(found.weights, dict(state))
    assert same(dict(target.state_dict()), before), "only copy_matching_weights() changes the network"


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: OrderedDict(state),
        lambda state: {"epoch": 3, "state_dict": state, "optimizer_state_dict": {"state": {}, "param_groups": []}},
        lambda state: {"network_weights": state, "optimizer_state": {}, "trainer_name": "nnUNetTrainer"},
        lambda state: {"epoch": torch.tensor(3), "model": {"state_dict": state}},
        lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
        lambda state: {"state_dict": {f"model._orig_mod.module.{name}": t for name, t in state.items()}},
        lambda state: {name: nn.Parameter(t, requires_grad=t.is_floating_point()) for name, t in state.items()
                       if t.is_floating_point()} | {name: t for name, t in state.items() if not t.is_floating_point()},
    ],
)  # fmt: skip
def test_state_dict_is_found_under_the_keys_of_other_programs(
    wrap: Callable[[dict[str, Tensor]], dict[str, Any]],
) -> None:
    state = dict(network(1).state_dict())
    found, in_order = match_weights(find_state_dict(wrap(state)), expected_tensors(network(2)))
    assert not in_order
    assert same({name: tensor.detach() for name, tensor in found.items()}, state)


@pytest.mark.slow
def test_other_precisions_are_converted_to_float32(tmp_path: Path) -> None:
    state, path = dict(network(1).state_dict()), tmp_path / "weights.pt"
    floating = [name for name, tensor in state.items() if tensor.is_floating_point()]
    for n, name in enumerate(floating):
        state[name] = state[name].to((torch.float16, torch.bfloat16, torch.float64)[n % 3])
    torch.save(state, path)
    found = read_foreign_weights(path, network(2)).weights
    assert same(found, {k: v.float() if v.is_floating_point() else v for k, v in state.items()})


def test_tensors_of_other_shapes_are_left_out() -> None:
    state = dict(network(1, in_channels=2, classes=5).state_dict())
    ours = expected_tensors(network())
    found, in_order = match_weights(find_state_dict(state), ours)
    first = next(name for name, (shape, _) in ours.items() if len(shape) == 5)
    assert not in_order
    assert set(ours) - set(found) == {first, "classifier.weight", "classifier.bias"}


@pytest.mark.slow
def test_same_network_under_other_names_is_matched_by_order(tmp_path: Path) -> None:
    state, path = dict(network(1).state_dict()), tmp_path / "weights.pth"
    torch.save({"state_dict": renamed(state), "epoch": 1}, path)
    found = read_foreign_weights(path, network(2))
    assert found.in_order
    assert same(found.weights, {k: v for k, v in state.items() if v.ndim})


def test_match_by_order_needs_every_tensor_in_its_place() -> None:
    model = network(1, norm="instance", activation="prelu")
    state = renamed(dict(model.state_dict()))
    assert match_weights(state, expected_tensors(model))[1]
    names = list(state)
    for other in (
        {name: state[name] for name in names[:-1]},
        {name: state[name] for name in [names[2], names[1], names[0], *names[3:]]},
        # An activation's slope (weight) before the normalisation (weight, bias): the shapes are the same.
        {name: state[name] for name in [*names[:3], names[4], names[3], *names[5:]]},
    ):
        with pytest.raises(CheckpointError, match="the whole does not by order"):
            match_weights(other, expected_tensors(model))


def test_mismatch_names_the_kernels_of_both_networks() -> None:
    state = dict(network(1, channels=(4, 8)).state_dict())
    ours = next((n, tuple(t.shape)) for n, t in network().state_dict().items() if t.ndim == 5)
    theirs = next((n, tuple(t.shape)) for n, t in state.items() if t.ndim == 5)
    with pytest.raises(CheckpointError) as caught:
        match_weights(state, expected_tensors(network()))
    for part in (f"{ours[0]} {ours[1]}", f"{theirs[0]} {theirs[1]}", "choose the model, channels"):
        assert part in str(caught.value)


def test_match_of_only_the_classifier_is_refused() -> None:
    state = dict(network(1).state_dict())
    with pytest.raises(CheckpointError, match="no kernel fits"):
        match_weights(
            {name: t for name, t in state.items() if name.startswith("classifier.")}, expected_tensors(network())
        )


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"state_dict": {"epoch": 3}}, torch.zeros(3), None, {}])
def test_content_without_state_dict_is_refused(content: object) -> None:
    with pytest.raises(CheckpointError, match=r"expected a state_dict .* found a (list|dict|Tensor|NoneType)"):
        find_state_dict(content)


def test_sparse_meta_complex_and_bool_tensors_are_left_out() -> None:
    state = dict(network(1).state_dict())
    odd: dict[Any, Any] = {
        "sparse": torch.eye(3).to_sparse(),
        "meta": torch.empty(3, device="meta"),
        "complex": torch.zeros(3) * 1j,
        "text": "weights",
        "flag": torch.tensor([True]),
        5: torch.zeros(3),
    }
    assert find_state_dict({**state, **odd}).keys() == state.keys()


@pytest.mark.slow
def test_training_starts_from_foreign_weights(tmp_path: Path) -> None:
    """The run reports the copied tensors, and its first checkpoint contains them."""
    data, run, path = write_balls(tmp_path / "balls"), tmp_path / "run", tmp_path / "weights.pth"
    run.mkdir()
    config = tiny(
        path=str(data), init_from=str(path), learning_rate=1e-12, ema=0.0, epochs=1, samples_train=2, whole_every=0
    )
    torch.manual_seed(5)
    source = dict(build_model(config.model, 1, 3).state_dict())
    torch.save({"state_dict": renamed(source)}, path)
    events: list[Event] = []
    train_run(config, run, events.append)
    facts = next(event for event in events if isinstance(event, Ready)).facts
    assert facts["weights"] == f"{len(source)} of {len(source)} tensors from weights.pth, by order"
    from core.checkpointing.checkpoint import load

    tuned = load(run / "last.safetensors").model
    assert all(torch.allclose(tuned[name], tensor, atol=1e-6) for name, tensor in source.items())
