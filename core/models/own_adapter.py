"""Builds a user's network: a :class:`SegmentationNetwork`, or any ``nn.Module`` of ``(in_channels, classes)``."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn, TextIO

from torch import Tensor, nn

from core.compute.convolution_precision import SafeConvolutions, in_half_on_a_cpu
from core.config import ModelConfig
from core.errors import ConfigError
from core.models.architecture import Architecture
from core.models.blocks import (
    NetworkOutput,
    SegmentationNetwork,
    StageModule,
    WeightedLayer,
    weighted_layers,
)
from core.models.own_modules import check_modules, found_first
from core.models.own_source import modules_beside

_loaded: dict[Path, tuple[dict[str, str], set[str]]] = {}  # by :func:`modules_beside`
LIMIT_S = 120.0  # longest import or construction of a network, with the packages that it imports, on a loaded machine


def build_own(entry: Architecture, config: ModelConfig, in_channels: int, classes: int) -> SegmentationNetwork:
    """The network of an entry that :mod:`core.models.own_networks` found; this runs its code.

    Parameters
    ----------
    entry : Architecture. Of a file or an entry point.
    config : ModelConfig. Resolved.
    in_channels, classes : int. Number of input channels, and of classes.

    Raises
    ------
    ConfigError
        If the module cannot be imported, has no such class, or the class cannot be built so.
    """
    where = entry.path or entry.module
    try:
        with _contained():
            module = _load(Path(entry.path)) if entry.path else importlib.import_module(entry.module)
            network_class = getattr(module, entry.class_name)
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"model: {where}: importing it failed: {type(error).__name__}: {error}; correct the file, or restore it as "
            "it was"
        ) from error
    if not (isinstance(network_class, type) and issubclass(network_class, nn.Module)):
        raise ConfigError(f"model: {where}: expected {entry.class_name} to be a torch.nn.Module")
    try:
        with _contained():
            network: SegmentationNetwork
            if issubclass(network_class, SegmentationNetwork):
                network = network_class(config, in_channels, classes)
            else:
                network = OwnNetwork(config, in_channels, classes, network_class)
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"model: {where}: {entry.class_name} cannot be built for {in_channels} input channels and {classes} "
            f"classes: {type(error).__name__}: {error}"
        ) from error
    network.any_memory_format = False
    return network


class OwnNetwork(SegmentationNetwork):
    """A user's ``nn.Module`` from an image (batch, in_channels, i, j, k), whose size is a multiple of the class's
    ``divisor``, to logits (batch, classes, i, j, k).

    Parameters
    ----------
    config, in_channels, classes : as in :class:`SegmentationNetwork`.
    build : callable. From the numbers of modalities and classes to the module.
    """

    def __init__(
        self, config: ModelConfig, in_channels: int, classes: int, build: Callable[[int, int], nn.Module]
    ) -> None:
        super().__init__(config, in_channels, classes)
        self.network = build(in_channels, classes)

    def forward(self, image: Tensor) -> Tensor | NetworkOutput:
        """Logits (batch, classes, i, j, k) of an image (batch, in_channels, i, j, k).

        Raises
        ------
        ConfigError
            If the user's module returns something else.
        """
        image, crop = self.pad(image)
        with SafeConvolutions() if in_half_on_a_cpu(image) else contextlib.nullcontext():
            output = self.network(image)
        logits = output.logits if isinstance(output, NetworkOutput) else output
        expected = (image.shape[0], self.classes, *image.shape[2:])
        if not isinstance(logits, Tensor) or tuple(logits.shape) != expected:
            where = getattr(sys.modules.get(type(self.network).__module__), "__file__", None) or self.config.model
            raise ConfigError(f"model: {where}: {_wrong_shape(output, logits, expected, image)}")
        if isinstance(output, NetworkOutput) and self.training:
            return NetworkOutput(crop(logits), output.extras)
        return crop(logits)

    def stages(self) -> list[StageModule]:
        """The logits alone: what is inside is not known."""
        return [StageModule("logits", 0, self.network, reads_image=True)]

    def layers_giving_outputs(self) -> list[WeightedLayer]:
        """The layer that was registered last: what is inside is not known."""
        return weighted_layers(self.network)[-1:]


def _wrong_shape(output: object, logits: object, expected: tuple[int, ...], image: Tensor) -> str:
    """What a network returned instead of logits of the expected shape, and what to do."""
    wanted = f"expected logits of shape {expected} for an image of shape {tuple(image.shape)}"
    if not isinstance(logits, Tensor):
        return f"{wanted}, got a {type(output).__name__}; return the tensor alone"
    found, text = tuple(logits.shape), f"{wanted}, got {tuple(logits.shape)}"
    if len(found) == len(expected) and found[2:] != expected[2:]:
        return (
            f"{text}: pad its convolutions, or, if it needs sizes that are a multiple of n, state it in the class: "
            "divisor = n"
        )
    if len(found) == len(expected) and found[1] != expected[1]:
        return f"{text}: the second argument of its class is the number of classes, background included"
    return text


@contextlib.contextmanager
def _contained() -> Iterator[None]:
    """Import or build code of the user: it prints to standard error, does not end the process, and is interrupted after
    a time (where the system has timers of signals, in the main thread)."""
    real_exit = os._exit
    os._exit = _refuse_exit
    try:
        with contextlib.redirect_stdout(sys.stderr), _time_limit():
            yield
    finally:
        os._exit = real_exit


def _refuse_exit(status: int) -> NoReturn:
    raise SystemExit(f"os._exit({status})")


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    """Raises :class:`TimeoutError` in what takes longer than :data:`LIMIT_S`."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> NoReturn:
        raise TimeoutError(f"it took longer than {LIMIT_S:.0f} s: look for code that waits or never ends")

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _print_to_stderr(*values: object, file: TextIO | None = None, **options: Any) -> None:
    """``print`` of the modules of users: standard output belongs to the answers of commands."""
    print(*values, file=sys.stderr if file is None else file, **options)


def _load(path: Path) -> ModuleType:
    """Import a file as a module of its own; it may import modules from its folder."""
    name = f"segmentarium_own_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    module.__dict__["print"] = _print_to_stderr
    sys.modules[name] = module  # dataclasses look their module up there
    try:
        with _modules_of(path):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextlib.contextmanager
def _modules_of(path: Path) -> Iterator[None]:
    """Import modules from the folder of a file, and not those of the same name from elsewhere.

    Raises
    ------
    ImportError
        If one of two modules of the same name and other code, beside two networks, is imported in a function, which
        could be given the other one; or if a module of the same name is installed, or loaded from elsewhere.
    """
    digests, late = modules_beside(path)
    same: set[str] = set()  # names of modules with other code beside another network
    alike: dict[str, list[str]] = {name: [] for name in digests}  # folders of networks with the same code
    for other, (other_digests, other_late) in _loaded.items():
        differing = {name for name in digests.keys() & other_digests if digests[name] != other_digests[name]}
        if unclear := differing & (late | other_late):
            raise ImportError(
                f"beside {other} and {path} are modules of the same name, {min(unclear)}, which one of them imports in "
                "a function; import it at the top of the file, or rename it"
            )
        same |= differing
        for name in (digests.keys() & other_digests) - differing:
            alike[name].append(str(other.parent))
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in same}
    try:
        with found_first(digests, path.parent):
            check_modules(path, alike)
            yield
            check_modules(path, alike)
        _loaded[path] = digests, late
    finally:
        sys.modules.update(hidden)
