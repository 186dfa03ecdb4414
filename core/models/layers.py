"""Lists the convolutions and the stages of a network without building it, and without torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from core.choices import Activation, NormLayer
from core.config import ModelConfig
from core.models import architecture
from core.models.spec import Operators, StageKind
from core.types import Size3, triple


@dataclass(frozen=True)
class Layer:
    """One convolution, with the normalisation and activation that follow it.

    Attributes
    ----------
    in_channels, out_channels : int
    kernel_size, stride : int. Voxels along each axis.
    level : int. Resolution of the output; 0 is full resolution, each further level halves it.
    transposed : bool. Whether the stride multiplies the size instead of dividing it.
    extra_parameters : int. Parameters of normalisation and activation.
    """

    in_channels: int
    out_channels: int
    kernel_size: int
    stride: int
    level: int
    transposed: bool
    extra_parameters: int = 0

    @property
    def parameters(self) -> int:
        """Learned values: kernel, bias, normalisation, activation."""
        return self.in_channels * self.out_channels * self.kernel_size**3 + self.out_channels + self.extra_parameters

    def multiply_adds(self, voxels: int) -> int:
        """Multiply-adds of the convolution for a number of output voxels."""
        taps = self.kernel_size**3 // (self.stride**3 if self.transposed else 1)
        return voxels * self.in_channels * self.out_channels * taps


@dataclass(frozen=True)
class Stage:
    """One stage of a network.

    Attributes
    ----------
    kind : "encoder", "bottleneck", "decoder" or "logits".
    level : int. Resolution of the output; 0 is full resolution.
    channels : int. Channels of the output.
    reads_image : bool. Whether the stage starts from the image instead of another stage's output.
    """

    kind: StageKind
    level: int
    channels: int
    reads_image: bool


def list_layers(config: ModelConfig, in_channels: int, classes: int) -> list[Layer]:
    """The convolutions of a network in the order in which an image passes through them.

    Raises
    ------
    ConfigError
        If the architecture is unknown.
    """
    return _run(config, in_channels, classes).layers


def list_stages(config: ModelConfig, in_channels: int, classes: int) -> list[Stage]:
    """The stages of a network in the order in which an image passes through them; the last gives the logits.

    Raises
    ------
    ConfigError
        If the architecture is unknown.
    """
    return _run(config, in_channels, classes).stages


def reads_image_at(config: ModelConfig, level: int) -> bool:
    """Whether a stage at a level starts from the image instead of another stage's output.

    Raises
    ------
    ConfigError
        If the architecture is unknown.
    """
    return any(stage.reads_image for stage in list_stages(config, 1, 1) if stage.level == level)


def _run(config: ModelConfig, in_channels: int, classes: int) -> _LayerLister:
    entry = architecture(config.model)
    side = entry.divisor(config)
    lister = _LayerLister(side)
    entry.forward(lister, entry.resolve(config), _Shape(in_channels, (side, side, side)), classes)
    return lister


@dataclass(frozen=True)
class _Shape:
    channels: int
    size: Size3


class _LayerLister(Operators[_Shape]):
    """Collects layers and stages; ``side`` is that of the image in voxels."""

    def __init__(self, side: int) -> None:
        self.side = side
        self.layers: list[Layer] = []
        self.stages: list[Stage] = []

    def convolve(
        self, x: _Shape, out_channels: int, kernel_size: int, stride: int = 1, transposed: bool = False
    ) -> _Shape:
        size = triple([n * stride if transposed else n // stride for n in x.size])
        level = (self.side // size[0]).bit_length() - 1
        self.layers.append(Layer(x.channels, out_channels, kernel_size, stride, level, transposed))
        return _Shape(out_channels, size)

    def normalise(self, x: _Shape, norm: NormLayer) -> _Shape:
        self._add_parameters(2 * x.channels)
        return x

    def activate(self, x: _Shape, activation: Activation) -> _Shape:
        if activation == "prelu":
            self._add_parameters(x.channels)
        return x

    def max_pool(self, x: _Shape) -> _Shape:
        return _Shape(x.channels, triple([n // 2 for n in x.size]))

    def concatenate(self, a: _Shape, b: _Shape) -> _Shape:
        return _Shape(a.channels + b.channels, a.size)

    def add(self, a: _Shape, b: _Shape) -> _Shape:
        return a if a.channels >= b.channels else b

    def mark_stage(self, kind: StageKind, level: int, x: _Shape, reads_image: bool = False) -> None:
        self.stages.append(Stage(kind, level, x.channels, reads_image))

    def _add_parameters(self, count: int) -> None:
        last = self.layers[-1]
        self.layers[-1] = dataclasses.replace(last, extra_parameters=last.extra_parameters + count)
