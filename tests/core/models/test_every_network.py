"""Every network of the registry keeps the contract of :class:`core.models.blocks.SegmentationNetwork`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from core.compute.tracing import fake_tensors
from core.config import ModelConfig
from core.errors import ConfigError
from core.models import MODELS, architecture, resolve, size_divisor
from core.models.blocks import NetworkOutput, SegmentationNetwork
from core.models.build import build_model
from core.models.network_trace import build_fake_network
from tests.support.peer_packages import import_or_skip

LIBRARY_NAMES = {
    "VNET": "vnet", "VNET2": "vnet_light", "UNET3D": "unet3d",
    "DENSENET1": "densenet_early", "DENSENET2": "densenet_late", "DENSENET3": "densenet_dual",
    "HYPERDENSENET": "hyperdensenet", "SKIPDENSENET3D": "skipdensenet3d", "DENSEVOXELNET": "densevoxelnet",
    "HIGHRESNET": "highresnet3d", "RESNET3DVAE": "resnet3d_vae", "RESNETMED3D": "med3d", "UNET2D": "unet2d",
}  # fmt: skip
OTHER_VALUES: dict[str, Any] = {
    "channels": (3, 5), "convolutions": (1, 3), "norm": "instance", "activation": "prelu", "downsampling": "stride",
    "widening": "after", "full_resolution": "detail", "deep_supervision": True, "resnet_depth": "18",
}  # fmt: skip
SHORT_OVERFIT = ("densenet_dual",)  # the others in the long form
FLOAT16_MAX = 65504


def narrow(name: str) -> ModelConfig:
    """The network with few channels where it takes them, else as it is."""
    config = ModelConfig(name)
    if "channels" not in MODELS[name].options:
        return config
    few = (2, 3) if size_divisor(config) == 1 else (4, 6, 8)
    return dataclasses.replace(config, channels=few)


def costly(name: str) -> bool:
    """Whether the network has no narrow form."""
    return "channels" not in MODELS[name].options


def marks(name: str) -> pytest.MarkDecorator | tuple[()]:
    """Swin UNETR, 62 million parameters without a narrow form, belongs to the long form."""
    if name == "swin_unetr":
        return pytest.mark.long(3)
    return pytest.mark.slow if costly(name) else ()


every_network = pytest.mark.parametrize("name", [pytest.param(name, marks=marks(name)) for name in MODELS])


def build(config: ModelConfig, in_channels: int = 2, classes: int = 3, seed: int = 0) -> SegmentationNetwork:
    for package in architecture(config.model).packages:
        import_or_skip(package, "requirements-dev.txt")
    torch.manual_seed(seed)
    return build_model(config, in_channels, classes)


def meta(config: ModelConfig, in_channels: int = 2, classes: int = 3) -> SegmentationNetwork:
    with torch.device("meta"):
        return build(config, in_channels, classes)


def fake(config: ModelConfig, in_channels: int = 2, classes: int = 3) -> SegmentationNetwork:
    for package in architecture(config.model).packages:
        import_or_skip(package, "requirements-dev.txt")
    return build_fake_network(config, in_channels, classes)


def image(*size: int, channels: int = 2, batch: int = 1, seed: int = 0) -> Tensor:
    return torch.randn((batch, channels, *size), generator=torch.Generator().manual_seed(seed))


def logits_of(output: Tensor | NetworkOutput) -> Tensor:
    return output.logits if isinstance(output, NetworkOutput) else output


def tensors_of(output: Tensor | NetworkOutput) -> Iterator[Tensor]:
    """The logits and all extras."""
    yield logits_of(output)
    if isinstance(output, NetworkOutput):
        for extra in output.extras.values():
            yield from (extra,) if isinstance(extra, Tensor) else extra


def backward(output: Tensor | NetworkOutput) -> None:
    torch.stack([tensor.float().square().mean() for tensor in tensors_of(output)]).sum().backward()


def widths(network: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in network.state_dict().items()}


@every_network
@pytest.mark.parametrize("size", [16, pytest.param(32, marks=pytest.mark.long(1))])
def test_forward_and_backward_are_finite(name: str, size: int) -> None:
    options: dict[str, Any] = {"deep_supervision": True} if "deep_supervision" in MODELS[name].options else {}
    network = build(dataclasses.replace(narrow(name), **options))
    x = image(size, size, size)
    output = network(x)
    backward(output)
    assert logits_of(output).shape == (1, 3, size, size, size)
    assert all(tensor.isfinite().all() for tensor in tensors_of(output))
    assert isinstance(output, NetworkOutput) or not network.config.deep_supervision
    if isinstance(output, NetworkOutput):
        assert output.extras
        halved = [tensor.shape[2:] for tensor in output.extras.get("deep_supervision", ())]
        padded = network.pad(x)[0].shape[2:]
        assert halved == [tuple(n >> level for n in padded) for level in range(1, len(halved) + 1)]
    missing = [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing, "every parameter takes part"
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)
    assert any(p.grad.any() for p in network.parameters() if p.grad is not None)


@pytest.mark.slow
@every_network
def test_default_network_is_built_without_values_and_again_from_its_configuration(name: str) -> None:
    network = meta(ModelConfig(name))
    assert network.config == resolve(ModelConfig(name))
    assert (network.in_channels, network.classes) == (2, 3)
    again = meta(network.config)
    assert again.config == network.config and widths(again) == widths(network)


@pytest.mark.long(1)
@every_network
def test_default_network_is_trained_at_32_on_tensors_without_values(name: str) -> None:
    """Reading a value of a fake tensor raises."""
    with fake_tensors(), torch.autocast("cpu", torch.bfloat16):
        network = fake(ModelConfig(name))
        output = network(torch.empty(1, 2, 32, 32, 32))
        backward(output)
        assert logits_of(output).shape == (1, 3, 32, 32, 32)
        assert all(p.grad is not None for p in network.parameters() if p.requires_grad)


@every_network
@pytest.mark.parametrize(("in_channels", "classes"), [(1, 2), (3, 9)])
def test_any_number_of_modalities_and_classes(name: str, in_channels: int, classes: int) -> None:
    network = build(narrow(name), in_channels, classes).eval()
    with torch.no_grad():
        assert network(image(8, 9, 7, channels=in_channels)).shape == (1, classes, 8, 9, 7)


@pytest.mark.parametrize("name", [name for name, entry in MODELS.items() if entry.max_in_channels])
def test_more_modalities_than_a_network_takes_are_refused(name: str) -> None:
    most = MODELS[name].max_in_channels
    assert most is not None
    with pytest.raises(ConfigError, match=rf"{name} takes at most {most} modalities, got {most + 1}"):
        build(narrow(name), most + 1)


@every_network
def test_any_size_down_to_one_voxel(name: str) -> None:
    network = build(narrow(name))
    for size in [(1, 1, 1), (1, 9, 6), (7, 5, 11)]:
        output = network(image(*size))
        assert logits_of(output).shape == (1, 3, *size)
        assert all(tensor.isfinite().all() for tensor in tensors_of(output))
    with torch.no_grad():
        logits = network.eval()(image(2, 7, 1))
    assert isinstance(logits, Tensor) and logits.shape == (1, 3, 2, 7, 1)
    assert logits.isfinite().all()


@every_network
def test_evaluation_gives_logits_of_each_image_for_itself(name: str) -> None:
    network = build(narrow(name)).eval()
    images = image(6, 9, 5, batch=2)
    with torch.no_grad():
        both = network(images)
        assert isinstance(both, Tensor)
        torch.testing.assert_close(both, torch.cat([network(one[None]) for one in images]), rtol=1e-3, atol=1e-4)


@every_network
def test_training_gives_the_same_logits_again(name: str) -> None:
    network = build(narrow(name))
    first = logits_of(network(image(8, 9, 10)))
    torch.manual_seed(1)
    assert torch.equal(first, logits_of(network(image(8, 9, 10))))


@every_network
def test_bfloat16_autocast_is_close_to_float32(name: str) -> None:
    network = build(narrow(name))
    x = image(16, 12, 9)
    exact = logits_of(network(x))
    with torch.autocast("cpu", torch.bfloat16):
        output = network(x)
    assert all(tensor.isfinite().all() for tensor in tensors_of(output))
    assert (logits_of(output).float() - exact).square().mean().sqrt() < 0.1 * exact.std()


class LargestValue(TorchDispatchMode):
    """The largest absolute value that any operator returns in the low precision of autocast."""

    largest = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, Tensor) and tensor.dtype == torch.bfloat16 and tensor.numel():
                self.largest = max(self.largest, tensor.detach().abs().max().item())
        return result


@every_network
def test_no_value_comes_near_the_largest_of_float16(name: str) -> None:
    """Normalised images have outliers; no operator of a fresh network makes large values of them. bfloat16 stands for
    float16 here: it has the range to show them."""
    network = build(narrow(name))
    x = image(12, 9, 10)
    x[:, :, 3, 4, 5] = 30
    with LargestValue() as mode, torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        network(x)
    assert 0 < mode.largest < FLOAT16_MAX / 16


@every_network
def test_building_is_decided_by_the_seed(name: str) -> None:
    states = [build(narrow(name), seed=seed).state_dict() for seed in (0, 0, 1)]
    assert all(torch.equal(tensor, states[1][key]) for key, tensor in states[0].items())
    assert not all(torch.equal(tensor, states[2][key]) for key, tensor in states[0].items())


@every_network
def test_first_logits_have_about_unit_scale(name: str) -> None:
    """So that the first probabilities are far from 0 and 1."""
    network = build(narrow(name))
    assert 0.05 < logits_of(network(image(16, 16, 16))).std().item() < 3


@every_network
def test_saved_and_loaded_network_gives_the_same_logits(name: str) -> None:
    network = build(narrow(name))
    network(image(9, 8, 10))  # moves running statistics
    loaded = build(network.config, seed=1)
    loaded.load_state_dict(safetensors.torch.load(safetensors.torch.save(network.state_dict())))
    x = image(7, 8, 9, seed=1)
    with torch.no_grad():
        assert torch.equal(network.eval()(x), loaded.eval()(x))


@every_network
def test_stages_are_called_once_and_have_their_level(name: str) -> None:
    network = meta(narrow(name)).eval()
    x = torch.empty(1, 2, 30, 33, 40, device="meta")
    padded = network.pad(x)[0].shape[2:]
    stages = network.stages()
    outputs: list[tuple[nn.Module, Any]] = []
    for stage in stages:
        stage.module.register_forward_hook(lambda module, inputs, output: outputs.append((module, output)))
    network(x)
    called = [id(module) for module, _ in outputs]
    assert sorted(called) == sorted(id(stage.module) for stage in stages), "once each"
    if name != "swin_unetr":  # computes the transformer before the convolutions
        assert called == [id(stage.module) for stage in stages], "in order"
    for stage in stages:
        output = outputs[called.index(id(stage.module))][1]
        assert isinstance(output, Tensor) and output.shape[0] == 1 and output.ndim == 5
        halved = [size >> stage.level for size in padded]
        assert output.shape[2] == halved[0]
        assert all(n in (small, size) for n, small, size in zip(output.shape[2:], halved, padded, strict=True))
    assert [stage.kind == "logits" for stage in stages] == [False] * (len(stages) - 1) + [True]
    assert (stages[-1].level, outputs[called.index(id(stages[-1].module))][1].shape[1]) == (0, 3)
    assert stages[0].reads_image


@pytest.mark.slow
@every_network
def test_options_that_a_network_lists_change_it_and_no_others(name: str) -> None:
    entry, config = MODELS[name], narrow(name)
    built = repr(meta(config))
    for option, value in OTHER_VALUES.items():
        changed = dataclasses.replace(config, **{option: value})
        if option in entry.options:
            assert getattr(resolve(changed), option) == value
            assert repr(meta(changed)) != built, f"{option} has no effect"
        else:
            assert resolve(changed) == resolve(config), f"{option} is not the network's"


def test_other_values_cover_every_option() -> None:
    defaults = ModelConfig()
    assert {field.name for field in dataclasses.fields(ModelConfig)} == {"model", *OTHER_VALUES}
    assert all(getattr(defaults, option) != value for option, value in OTHER_VALUES.items())


@pytest.mark.parametrize(("alias", "name"), LIBRARY_NAMES.items())
def test_names_of_the_library_are_found(alias: str, name: str) -> None:
    assert architecture(alias) is MODELS[name]
    assert resolve(ModelConfig(alias)).model == name
    assert architecture(alias.lower()) is architecture(alias.title()) is MODELS[name], "in any case"


def test_names_and_aliases_are_unique() -> None:
    names = [name for entry in MODELS.values() for name in (entry.name, *entry.aliases)]
    assert len(names) == len(set(names))


@every_network
def test_image_of_another_shape_is_refused(name: str) -> None:
    network = meta(narrow(name))
    for shape in [(2, 8, 8, 8), (1, 1, 8, 8, 8), (1, 2, 8, 8)]:
        with pytest.raises(ValueError, match=r"image of shape \(batch, 2, i, j, k\)"):
            network(torch.zeros(shape, device="meta"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        name if name in SHORT_OVERFIT else pytest.param(name, marks=pytest.mark.long(2))
        for name in MODELS
        if name != "swin_unetr"
    ],
)
def test_one_sub_volume_is_overfitted(name: str) -> None:
    target = torch.zeros(1, 12, 10, 12, dtype=torch.long)
    target[:, 1:7, 2:8, 2:8] = 1
    target[:, 7:11, 2:8, 2:10] = 2
    x = (target > 0)[:, None].float() + 0.2 * image(12, 10, 12, channels=1)  # classes 1 and 2 differ in place alone
    network = build(narrow(name), in_channels=1)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=150)
    for step in range(1, 151):
        optimizer.zero_grad()
        F.cross_entropy(logits_of(network(x)), target).backward()
        optimizer.step()
        schedule.step()
        if step % 5:
            continue
        with torch.no_grad():
            prediction = network.eval()(x).argmax(dim=1)
        network.train()
        if dice(prediction, target) > 0.95:
            return
    pytest.fail(f"Dice {dice(prediction, target):.3f} after 150 steps")


def dice(prediction: Tensor, target: Tensor) -> float:
    """The lowest Dice of the foreground classes."""
    both: Callable[[int], Tensor] = lambda c: ((prediction == c) & (target == c)).sum()  # noqa: E731
    return min((2 * both(c) / ((prediction == c).sum() + (target == c).sum())).item() for c in (1, 2))
