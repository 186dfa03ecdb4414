"""The torch-free entry of a network in the registry: its name, its options, and where its class is."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from core.config import ModelConfig

StageKind = Literal["encoder", "bottleneck", "decoder", "logits"]


def stage_names(stages: Iterable[tuple[str, int]]) -> list[str]:
    """Unique names of stages: their kind, of encoder and decoder with the level ("encoder-1", "bottleneck", "logits");
    from the second of the same name on with a number ("encoder-0-2").

    Parameters
    ----------
    stages : iterable of (str, int). Kind and level of each, in the order of computation.
    """
    names, counts = [], Counter[str]()
    for kind, level in stages:
        name = f"{kind}-{level}" if kind in ("encoder", "decoder") else kind
        counts[name] += 1
        names.append(f"{name}-{counts[name]}" if counts[name] > 1 else name)
    return names


def halving_levels(config: ModelConfig) -> int:
    """Divisor of a network with a level per entry of ``channels``, each of which but the first halves the size."""
    return int(2 ** (len(config.channels) - 1))


def multiple_of(divisor: int) -> Callable[[ModelConfig], int]:
    """Divisor of a network of fixed depth."""
    return lambda config: divisor


@dataclass(frozen=True)
class Architecture:
    """One network of the registry.

    Attributes
    ----------
    name : str. Value of :attr:`core.config.ModelConfig.model`.
    module, class_name : str. The :class:`core.models.blocks.SegmentationNetwork`; the module is imported on use.
    help : str. One line for forms and ``--help``: the network, its authors and year, what sets it apart.
    channels : tuple of int. Its own channels, where a configuration has none; empty for a network of fixed widths.
    options : tuple of str. Fields of the configuration that it takes, beside ``model``.
    fixed_options : mapping of str. Values of fields that it does not take, where they differ from the defaults.
    divisor : callable. From a resolved configuration to the number of voxels of which each side of an image must be a
        multiple; images of other sizes are padded inside the network.
    aliases : tuple of str. Other names by which it is known.
    max_in_channels : int or None. Most modalities that it takes; ``None`` for any number.
    no_indicator : str. Why it takes no channels that state which modalities exist (:func:`core.models.input_channels`);
        empty for a network that does.
    own : bool. Whether it is a user's (:mod:`core.models.own_networks`).
    path : str. Python file of a user's network; ``module`` is then empty.
    packages : tuple of str. Optional packages that it needs, of requirements-networks.txt.
    extras : tuple of str. Further outputs in training that only a loss of its own uses (:data:`core.losses.LOSSES`).
    """

    name: str
    module: str
    class_name: str
    help: str
    channels: tuple[int, ...] = ()
    options: tuple[str, ...] = ("channels", "norm", "activation")
    fixed_options: Mapping[str, object] = field(default_factory=dict)
    divisor: Callable[[ModelConfig], int] = halving_levels
    aliases: tuple[str, ...] = ()
    max_in_channels: int | None = None
    no_indicator: str = ""
    packages: tuple[str, ...] = ()
    own: bool = False
    path: str = ""
    extras: tuple[str, ...] = ()

    def resolve(self, config: ModelConfig) -> ModelConfig:
        """The configuration as the network takes it: its name, its own channels where none are given, and fixed values
        for the options that it does not take."""
        defaults = ModelConfig()
        values: dict[str, object] = {
            f.name: self.fixed_options.get(f.name, getattr(defaults, f.name))
            for f in dataclasses.fields(config)
            if f.name not in self.options
        }
        values["model"] = self.name
        if "channels" in self.options:
            values["channels"] = config.channels or self.channels
        return dataclasses.replace(config, **values)  # type: ignore[arg-type]
