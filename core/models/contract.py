"""Checks a user's network against the contract of networks: builds it, and runs it on small volumes on the CPU.

``python -m core.models.contract path/to/file.py:ClassName`` prints what breaks the contract; exit status 1 if anything
does. ``train`` and ``submit`` do the same, in a process of its own, before a run is created.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from core.config import ModelConfig
from core.errors import ConfigError, UserError
from core.models import architecture, name_own_network, size_divisor
from core.models.blocks import NetworkOutput
from core.models.build import build_model
from core.models.own_adapter import OwnNetwork
from core.models.own_networks import KEPT, add_to_list, is_file_reference
from core.models.own_source import failure_in_code
from core.processes import reserve_stdout

if TYPE_CHECKING:
    from core.models.blocks import SegmentationNetwork

STORED_DTYPES = (torch.float32, torch.int64)  # of tensors in a checkpoint
SMALL, MAX_SIDE = 16, 96
NAMED = 3  # tensors that a message names
_NUMBERS = re.compile(r"^in \w+ mode|\d+")


def check_network(config: ModelConfig, in_channels: int = 2, classes: int = 3) -> None:
    """Check that a network does what training, checkpoints and inference rely on.

    Parameters
    ----------
    config : ModelConfig. The network.
    in_channels, classes : int. Number of input channels, and of classes.

    Raises
    ------
    ConfigError
        If it does not; every reason that was found is named.
    """
    found: dict[str, tuple[str, list[str]]] = {}  # those that differ in mode and numbers alone are one
    for problem, image in _guarded(config, _find_problems(config, in_channels, classes)):
        found.setdefault(_NUMBERS.sub("#", problem), (problem, []))[1].append(image)
    if found:
        listed = "".join(f"\n- {problem}{_describe_images(images)}" for problem, images in found.values())
        raise ConfigError(f"model: {config.model} breaks the contract of networks (docs/own_network.md):{listed}")


def _describe_images(images: Sequence[str]) -> str:
    """The images with which a problem was found, as the end of its sentence; empty where it is one of no image."""
    different = [image for image in dict.fromkeys(images) if image]
    more = f" and {len(different) - 1} more" if len(different) > 1 else ""
    return f" (image of shape {different[0]}{more})" if different else ""


def _guarded(config: ModelConfig, problems: Iterator[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """The problems that a part of the check finds; the last is what ends it before its time."""
    try:
        yield from problems
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - of the user's code
        yield _failure(config, error), ""


def _find_problems(config: ModelConfig, in_channels: int, classes: int) -> Iterator[tuple[str, str]]:
    """What is wrong, and with an image of which shape; empty where that does not matter."""
    networks = []
    for _ in range(2):
        torch.manual_seed(0)
        networks.append(build_model(config, in_channels, classes))
    network, again = networks
    for part in (
        _check_stated(config, network),
        _check_state(network),
        _check_seed(network, again),
        _check_on_meta(config, network),
    ):
        yield from _guarded(config, ((problem, "") for problem in part))
    for modalities, outputs in ((1, 2), (in_channels, classes)):
        yield from _guarded(config, _check_images(config, modalities, outputs))


def _check_images(config: ModelConfig, in_channels: int, classes: int) -> Iterator[tuple[str, str]]:
    """Passes with images of several sizes."""
    try:
        network = build_model(config, in_channels, classes)
    except ConfigError as error:
        yield str(error), ""
        return
    side = max(SMALL, 2 * max(network.divisor))
    if side > MAX_SIDE:
        yield f"divisor: expected at most {MAX_SIDE // 2}, got {network.divisor}", ""
        return
    for batch, size in ((2, (side, side, side)), (1, (side + 1, side - 3, side // 2 + 1))):
        image = torch.randn(batch, in_channels, *size, generator=torch.Generator().manual_seed(1))
        yield from ((problem, str(tuple(image.shape))) for problem in _check_passes(network, image, classes))


def _check_stated(config: ModelConfig, network: SegmentationNetwork) -> Iterator[str]:
    """What a class states is read from its text, before any of its code runs."""
    entry = architecture(config.model)
    plain = isinstance(network, OwnNetwork)
    own = type(network.network if isinstance(network, OwnNetwork) else network)
    read: dict[str, Any] = {"divisor": size_divisor(config)}
    if not plain:
        read |= {"options": entry.options, "channels": entry.channels}
    for name, value in read.items():
        stated = getattr(own, name, value)
        stated = tuple(stated) if isinstance(stated, list) else stated
        if not isinstance(stated, property) and not callable(stated) and stated != value:
            yield f"{name}: read {value!r} from the class, which has {stated!r}; write it into the class as a literal"
    if entry.options and plain:
        yield (
            f"options: a torch.nn.Module of (in_channels, classes) is not given any ({', '.join(entry.options)}); "
            "remove them, or derive the class from core.models.blocks.SegmentationNetwork"
        )


def _check_state(network: SegmentationNetwork) -> Iterator[str]:
    """What a checkpoint stores of a network."""
    state = network.state_dict()
    if not list(network.parameters()):
        yield "it has no parameters to train"
    if lazy := [name for name, value in state.items() if is_lazy(value)]:
        yield (
            f"expected initialised parameters, found lazy ones: {_some(lazy)}; give their sizes (Conv3d instead of "
            "LazyConv3d)"
        )
    if others := [name for name, value in state.items() if not isinstance(value, Tensor)]:
        yield (
            f"expected tensors in its state, found {_some(others)} of type {type(state[others[0]]).__name__}; keep "
            "them in attributes, or tensors in buffers, instead of get_extra_state"
        )
    if kinds := {n: t.dtype for n, t in _tensors(network).items() if t.dtype not in STORED_DTYPES}:
        yield (
            f"expected parameters and buffers of float32 or int64, which a checkpoint stores; got {_some(kinds)} "
            f"({next(iter(kinds.values()))}); register such a buffer with persistent=False"
        )


def _check_seed(network: SegmentationNetwork, again: SegmentationNetwork) -> Iterator[str]:
    state, other = _tensors(network), _tensors(again)
    if _shapes(state) != _shapes(other) or any(not torch.equal(tensor, other[n]) for n, tensor in state.items()):
        yield "built twice after torch.manual_seed(0) it has different weights; draw them from torch's generator"


def _check_on_meta(config: ModelConfig, network: SegmentationNetwork) -> Iterator[str]:
    """A checkpoint is compared with the network on the device "meta", before anything is read."""
    try:
        with torch.device("meta"):
            described = build_model(config, network.in_channels, network.classes)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - of the user's code
        yield f'it cannot be built under torch.device("meta") (no .item(), no numpy while building): {_text(error)}'
        return
    if {n: t.shape for n, t in _tensors(described).items()} != {n: t.shape for n, t in _tensors(network).items()}:
        yield 'it has other parameters when built under torch.device("meta")'


def _check_passes(network: SegmentationNetwork, image: Tensor, classes: int) -> Iterator[str]:
    """A forward and backward pass in training mode, then passes in evaluation mode."""
    expected = (image.shape[0], classes, *image.shape[2:])
    network.train().zero_grad(set_to_none=True)
    before, names, shapes = image.clone(), set(network.state_dict()), _shapes(_tensors(network))
    for mode, check in (("training", _of_training), ("evaluation", _of_evaluation)):
        try:
            yield from (f"in {mode} mode, {text}" for text in check(network, image, expected))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - of the user's code
            yield f"in {mode} mode: {_failure(network.config, error)}"
    if not torch.equal(image, before):
        yield "it changes the image in place"
    after = _shapes(_tensors(network))
    changed = [name for name in shapes | after if shapes.get(name) != after.get(name)]
    if changed := [name for name in changed if name in shapes or name not in names]:  # lazy ones were named
        yield (
            f"its parameters or buffers changed in forward: {_some(changed)}; create them in __init__, or register the "
            "buffer with persistent=False"
        )


def _of_training(network: SegmentationNetwork, image: Tensor, expected: tuple[int, ...]) -> Iterator[str]:
    output = network.train()(image)
    logits, extras = output if isinstance(output, NetworkOutput) else (output, {})
    yield from _of_logits(logits, expected)
    if not isinstance(logits, Tensor) or not logits.requires_grad:
        yield "the logits have no gradient"
        return
    loss = logits.float().square().mean()
    for extra in extras.values():
        for tensor in (extra,) if isinstance(extra, Tensor) else extra:
            loss = loss + tensor.float().square().mean()
    loss.backward()
    parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
    if unused := [name for name, p in parameters.items() if p.grad is None]:
        yield f"expected a gradient for every parameter, got none for {_some(unused)}; remove what is not used"
    if wrong := [name for name, p in parameters.items() if p.grad is not None and not p.grad.isfinite().all()]:
        yield f"expected finite gradients, got NaN or infinity for {_some(wrong)}"


@torch.no_grad()
def _of_evaluation(network: SegmentationNetwork, image: Tensor, expected: tuple[int, ...]) -> Iterator[str]:
    network.eval()
    logits = network(image)
    if isinstance(logits, NetworkOutput):
        yield "expected the logits alone, got a NetworkOutput"
        return
    yield from _of_logits(logits, expected)
    if isinstance(logits, Tensor) and logits.isfinite().all():
        if not torch.equal(logits, network(image)):
            yield "expected the same logits for the same image, got others in a second pass"
        with torch.autocast("cpu", torch.bfloat16):
            low = network(image)
        if isinstance(low, Tensor) and not low.isfinite().all():
            yield "expected finite logits under bf16 autocast, got NaN or infinity"
    yield from _of_stages(network, image)


def _of_logits(logits: object, expected: tuple[int, ...]) -> Iterator[str]:
    if not isinstance(logits, Tensor):
        yield f"expected logits, a tensor of shape {expected}; got a {type(logits).__name__}"
    elif tuple(logits.shape) != expected:
        yield f"expected logits of shape {expected}, (batch, classes, i, j, k) of the image; got {tuple(logits.shape)}"
    elif not logits.is_floating_point():
        yield f"expected floating logits, got {logits.dtype}"
    elif not logits.isfinite().all():
        yield "expected finite logits, got NaN or infinity"


def _of_stages(network: SegmentationNetwork, image: Tensor) -> Iterator[str]:
    calls: dict[nn.Module, list[object]] = {}

    def record(module: nn.Module, inputs: object, output: object) -> None:
        calls.setdefault(module, []).append(output)

    try:
        stages = network.stages()
    except NotImplementedError:
        yield "it has no stages(), which name its levels for the page Learn"
        return
    handles = [stage.module.register_forward_hook(record) for stage in stages]
    network(image)
    for handle in handles:
        handle.remove()
    for number, stage in enumerate(stages):
        outputs = calls.get(stage.module, [])
        if len(outputs) != 1 or not isinstance(outputs[0], Tensor):
            yield f"stages()[{number}]: expected a module that is called once and returns a tensor"
    if not stages or stages[-1].kind != "logits":
        yield "stages(): expected the last to give the logits"


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers of a checkpoint, without those that have no size yet."""
    state = network.state_dict()
    return {name: value for name, value in state.items() if isinstance(value, Tensor) and not is_lazy(value)}


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}


def _some(names: Sequence[str] | dict[str, torch.dtype]) -> str:
    listed = list(names)
    more = f" and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
    return ", ".join(listed[:NAMED]) + more


def _failure(config: ModelConfig, error: BaseException) -> str:
    """An exception of a network as one line, with its place in the user's code where it is there."""
    return failure_in_code(config.model, error).removeprefix("model: ") or _text(error)


def _text(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, ConfigError) else f"{type(error).__name__}: {text}"


def main(arguments: Sequence[str] | None = None, show: Callable[[str], object] = sys.stdout.write) -> int:
    """Check the network that the user names; returns the exit status. ``show`` gets the problem, or that there is none,
    which proves that the check came to its end."""
    parser = argparse.ArgumentParser(prog="python -m core.models.contract", description=__doc__)
    parser.add_argument("network", metavar="FILE.py:CLASS", help="a file and its class, or the name of a network")
    reference = parser.parse_args(arguments).network
    try:
        name = name_own_network(reference) if is_file_reference(reference) else reference
        entry = architecture(name)
        modalities = min(2, entry.max_in_channels or 2)
        check_network(ModelConfig(entry.name), modalities)
        add_to_list(entry.name)
    except UserError as error:
        show(f"{error}\n")
        return 1
    show(f"{name}: {KEPT}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(show=reserve_stdout().write))
