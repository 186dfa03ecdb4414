"""A GPU without float64, and without some operators, simulated on the CPU: Apple's, and some of Intel's."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from core.choices import LossName
from core.compute.precision import has_float64, resolve_precision, wide_dtype
from core.config import LossConfig, ModelConfig, OptimConfig
from core.errors import DeviceError
from core.inference.sliding_window import InferenceOptions, predict_logits
from core.losses.build import LossFacts, build_loss
from core.models import resampling
from core.models.build import build_model
from core.sampling.streaming import StreamedSubjects
from core.training import step as step_module
from core.training.step import TrainingStep
from tests.support.balls import training_subjects


def kernels() -> dict[str, set[str] | None]:
    """Dispatch keys with a kernel, by operator, as torch's own list states them; ``None`` for an operator that is
    composed of others."""
    spec = importlib.util.find_spec("torchgen")
    assert spec is not None and spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0], "packaged", "ATen", "native", "native_functions.yaml")
    found: dict[str, set[str] | None] = {}
    delegates = {}
    for block in re.split(r"\n(?=- func: )", path.read_text("utf-8")):
        if (named := re.match(r"- func: ([\w.]+)\(", block)) is None:
            continue
        if delegate := re.search(r"structured_delegate: ([\w.]+)", block):
            delegates[named[1]] = delegate[1]
        keys = re.findall(r"^    ([A-Z][\w, ]+):", block, re.MULTILINE) if "  dispatch:" in block else None
        found[named[1]] = None if keys is None else {key.strip() for line in keys for key in line.split(",")}
    return found | {name: found[other] for name, other in delegates.items()}


class AppleLike(TorchDispatchMode):
    """Refuses float64, and keeps the operators without a Metal kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels, self.missing = kernels(), set[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves((args, kwargs, result)):
            if isinstance(value, Tensor) and value.dtype == torch.float64:
                raise TypeError(f"{func}: Cannot convert a MPS Tensor to float64 dtype")
        name = func._schema.name.removeprefix("aten::")
        overload = func._schema.overload_name
        keys = self.kernels.get(f"{name}.{overload}" if overload else name)
        if keys is not None and not any(key == "MPS" or key.startswith("Composite") for key in keys):
            self.missing.add(name)
        return result


@pytest.fixture(scope="module")
def operators() -> AppleLike:
    return AppleLike()


@pytest.fixture(autouse=True)
def no_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_module, "wide_dtype", lambda device: wide_dtype(torch.device("mps")))
    monkeypatch.setattr(resampling, "WITHOUT_OPERATORS", ("cpu",))


def trained_and_used(operators: AppleLike, model: ModelConfig, loss: LossName) -> set[str]:
    """Operators without a Metal kernel in a training step and in the segmentation of a volume."""
    torch.manual_seed(0)
    network = build_model(model, 1, 3)
    facts = LossFacts(class_weights=(1.0, 2.0, 3.0), spacing_mm=(1.0, 1.0, 2.0))
    operators.missing.clear()
    step = TrainingStep(network, build_loss(LossConfig(loss), facts=facts), OptimConfig(ema=0.9), "fp32")
    image, label = torch.randn(1, 1, 8, 8, 8), torch.randint(0, 3, (1, 8, 8, 8), dtype=torch.uint8)
    with operators:
        step([(image, label)], 1e-3, 1)
        assert step.read_loss()[0] > 0
        step.reset_loss()
        predict_logits(network.eval(), image[0], InferenceOptions("tiles", (8, 8, 8), mirror=True))
    return set(operators.missing)


@pytest.mark.parametrize(
    "loss",
    ["dice_ce", "generalised_dice", "weighted_ce", "dice_focal", "tversky", "tags_angular", "boundary", "cldice"],
)
def test_losses_need_no_float64(operators: AppleLike, loss: LossName) -> None:
    assert not trained_and_used(operators, ModelConfig("unet3d", (2, 4)), loss)


@pytest.mark.parametrize(
    ("model", "loss"),
    [
        (ModelConfig("unet3d", (2, 4), deep_supervision=True, full_resolution="detail", norm="instance"), "dice_ce"),
        (ModelConfig("resnet3d_vae", (8, 16)), "vae"),
        (ModelConfig("skipdensenet3d", (4, 2, 2)), "ce"),
        (ModelConfig("hyperdensenet", (2, 3)), "ce"),
        (ModelConfig("highresnet3d", (4, 4, 4)), "ce"),
        (ModelConfig("unet2d", (2, 4)), "ce"),
    ],
    ids=lambda value: getattr(value, "model", None),
)
def test_networks_need_no_float64(operators: AppleLike, model: ModelConfig, loss: LossName) -> None:
    assert not trained_and_used(operators, model, loss)


def test_simulation_refuses_float64_and_sees_missing_kernels(operators: AppleLike) -> None:
    with pytest.raises(TypeError, match="float64"), operators:
        torch.ones(2).double()
    operators.missing.clear()
    with operators:
        torch.ones(2, 2).exp().geqrf()
    assert operators.missing == {"geqrf"}


@pytest.mark.parametrize("fp64", [True, False])
def test_some_intel_gpus_have_no_float64(monkeypatch: pytest.MonkeyPatch, fp64: bool) -> None:
    class Properties:
        has_fp64 = fp64

    monkeypatch.setattr(torch.xpu, "get_device_properties", lambda device: Properties)
    xpu = torch.device("xpu")
    assert has_float64(xpu) is fp64 and wide_dtype(xpu) is (torch.float64 if fp64 else torch.float32)
    assert resolve_precision("bf16", xpu) == "bf16"
    if fp64:
        assert resolve_precision("fp16", xpu) == "fp16"
    else:
        with pytest.raises(DeviceError, match="expected auto, bf16 or fp32 on this Intel GPU, got fp16"):
            resolve_precision("fp16", xpu)


def test_streamed_subjects_reach_any_device(tmp_path: Path) -> None:
    """Whole volumes too, which validation segments there."""
    subjects = StreamedSubjects(training_subjects(1), torch.device("meta"), tmp_path)
    assert {subjects.image(0).device.type, subjects.label(0).device.type} == {"meta"}
    subjects.close()
