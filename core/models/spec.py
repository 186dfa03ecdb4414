"""The torch-free description of a network: its registry entry, and its forward pass in abstract operators.

:mod:`core.models.layers` runs the description to list layers and count operations, and
:mod:`core.models.allocation_simulator` to estimate memory.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, Protocol, TypeVar

from core.choices import Activation, NormLayer
from core.config import ModelConfig
from core.types import Size3

StageKind = Literal["encoder", "bottleneck", "decoder", "logits"]


class SymbolicTensor(Protocol):
    """A tensor of which only the shape matters: channels, and size in voxels (i, j, k)."""

    @property
    def channels(self) -> int: ...

    @property
    def size(self) -> Size3: ...


T = TypeVar("T", bound=SymbolicTensor)


class Operators(ABC, Generic[T]):
    """The operators in which a forward pass is described.

    An operator returns a new tensor with one reference and keeps its arguments alive. The description retains and
    releases tensors where variables of the network's own ``forward`` begin and end to refer to them, so that lifetimes
    can be simulated; implementations that need no lifetimes do not override :meth:`retain` and :meth:`release`.
    """

    @abstractmethod
    def convolve(self, x: T, out_channels: int, kernel_size: int, stride: int = 1, transposed: bool = False) -> T:
        """A convolution with bias. It keeps the size, divides it by ``stride``, or multiplies it if ``transposed``."""

    @abstractmethod
    def normalise(self, x: T, norm: NormLayer) -> T:
        """A normalisation layer with learned scale and shift."""

    @abstractmethod
    def activate(self, x: T, activation: Activation) -> T:
        """An activation; PReLU learns one slope per channel."""

    @abstractmethod
    def max_pool(self, x: T) -> T:
        """2x2x2 max pooling."""

    @abstractmethod
    def concatenate(self, a: T, b: T) -> T:
        """The channels of both."""

    @abstractmethod
    def add(self, a: T, b: T) -> T:
        """The sum; one channel is broadcast."""

    def retain(self, *tensors: T) -> None:
        """Count one more reference to each tensor."""

    def release(self, *tensors: T) -> None:
        """Count one reference less to each tensor; memory without references is freed."""

    def mark_stage(self, kind: StageKind, level: int, x: T, reads_image: bool = False) -> None:
        """Note that ``x`` is the output of a stage at a level; ``reads_image``: the stage starts from the image."""

    def conv_unit(  # noqa: PLR0913 - the arguments of the layer
        self,
        x: T,
        out_channels: int,
        norm: NormLayer,
        activation: Activation | None,
        kernel_size: int = 3,
        stride: int = 1,
        transposed: bool = False,
    ) -> T:
        """Convolution, normalisation, activation, as :class:`core.models.blocks.ConvUnit`."""
        convolved = self.convolve(x, out_channels, kernel_size, stride, transposed)
        normalised = self.normalise(convolved, norm)
        self.release(convolved)
        if activation is None:
            return normalised
        active = self.activate(normalised, activation)
        self.release(normalised)
        return active


class Forward(Protocol):
    """A forward pass: (operators, resolved configuration, image, number of classes) to logits."""

    def __call__(self, ops: Operators[T], config: ModelConfig, image: T, classes: int) -> T: ...


@dataclass(frozen=True)
class Architecture:
    """One network of the registry.

    Attributes
    ----------
    name : str. Value of :attr:`core.config.ModelConfig.model`.
    module, class_name : str. The :class:`core.models.blocks.SegmentationNetwork`; the module is imported on use.
    channels : tuple of int. Channels at each resolution, full resolution first, where a configuration has none.
    help : str. One line for forms and ``--help``.
    forward : Forward. The forward pass in abstract operators; it must follow the class's own.
    fixed_options : mapping of str. Fields of the configuration that the architecture overrides.
    """

    name: str
    module: str
    class_name: str
    channels: tuple[int, ...]
    help: str
    forward: Forward
    fixed_options: Mapping[str, object] = field(default_factory=dict)

    def resolve(self, config: ModelConfig) -> ModelConfig:
        """The configuration with channels and fixed options filled in."""
        options = {"model": self.name, "channels": config.channels or self.channels, **self.fixed_options}
        return dataclasses.replace(config, **options)  # type: ignore[arg-type]

    def divisor(self, config: ModelConfig) -> int:
        """Number of voxels of which each side of an image must be a multiple: every level but the first halves it."""
        return 2 ** (len(config.channels or self.channels) - 1)
