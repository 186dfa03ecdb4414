"""The registry of network architectures; importing it needs no torch, building a network does
(:mod:`core.models.build`).

A new network takes a module ``NAME.py`` with the :class:`core.models.blocks.SegmentationNetwork`, and an entry in
:mod:`core.models.architectures`. Costs, memory and stages are read from the module itself, by tracing it.
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Sequence

from core.config import ModelConfig, TrainConfig
from core.errors import ConfigError
from core.fields import specs_of
from core.models import own_networks
from core.models.architecture import Architecture
from core.models.architectures import ARCHITECTURES

MODELS: dict[str, Architecture] = {entry.name: entry for entry in ARCHITECTURES}


def architecture(name: str) -> Architecture:
    """Look up an architecture by its name, one of its aliases, or the name of a user's network; case matters only to
    the latter.

    Raises
    ------
    ConfigError
        If there is none of that name.
    """
    known = _by_name()
    if name in known:
        return known[name]
    if own_networks.is_file_reference(name):
        raise ConfigError(
            f"model: expected the name of a network, got the file {name!r}; code is run only from files that you name "
            f"yourself: --model {own_networks.FORM}, or {own_networks.NETWORKS_VARIABLE}"
        )
    own = own_networks.find(name)
    if own is not None:
        return own
    lowered = {other.lower(): entry for other, entry in known.items()}
    if name.lower() in lowered:
        return lowered[name.lower()]
    near = _near(name)
    meant = f" (did you mean {' or '.join(near)}?)" if near else ""
    raise ConfigError(
        f"model: expected one of {', '.join(MODELS)}; got {name!r}{meant}. If that is a network of your own, name its "
        f"file: --model {own_networks.FORM}, or {own_networks.NETWORKS_VARIABLE}"
    )


def _by_name() -> dict[str, Architecture]:
    """The networks of the program by their names and aliases."""
    return {name: entry for entry in MODELS.values() for name in (entry.name, *entry.aliases)}


def _near(name: str) -> list[str]:
    """Names and aliases of networks, the user's among them, that are like a name."""
    known = {other.lower(): other for other in (*_by_name(), *architectures())}
    return [known[other] for other in difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.7)]


def architectures() -> dict[str, Architecture]:
    """All networks that can be chosen by name, the user's last."""
    return {**MODELS, **{entry.name: entry for entry in own_networks.available() if entry.name not in MODELS}}


def name_own_network(reference: str) -> str:
    """Register a network that the user gives as ``path/to/file.py:ClassName``; returns its name.

    Raises
    ------
    ConfigError
        If there is no such class, or its name belongs to another network.
    """
    return own_networks.name_network(reference, _by_name())


def unused_model_options(name: str) -> set[str]:
    """Fields of :class:`core.config.ModelConfig` that a network does not take; none for an unknown network."""
    try:
        taken = architecture(name).options
    except ConfigError:
        return set()
    return {spec.name for spec in specs_of(ModelConfig, section="model")} - {"model", *taken}


def missing_packages(entry: Architecture) -> list[str]:
    """The optional packages of a network that are not installed."""
    return [name for name in entry.packages if importlib.util.find_spec(name) is None]


def check_packages(entry: Architecture) -> None:
    """Check that the optional packages of a network are installed.

    Raises
    ------
    ConfigError
        If they are not; the message has the command that installs them.
    """
    if missing := missing_packages(entry):
        raise ConfigError(
            f"model: {entry.name} needs {' and '.join(missing)}, not installed here: pip install -r "
            "requirements-networks.txt, in the program's folder; or choose another network"
        )


def resolve(config: ModelConfig) -> ModelConfig:
    """The configuration with the architecture's own channels and fixed options filled in.

    Raises
    ------
    ConfigError
        If the architecture is unknown.
    """
    return architecture(config.model).resolve(config)


def input_channels(config: TrainConfig, modalities: int) -> int:
    """Number of input channels of a network: one per modality, and with ``modality_indicator`` as many again, which
    state what images exist (:func:`core.models.indicator.with_indicator`).

    Raises
    ------
    ConfigError
        If the architecture is unknown, or takes no such channels.
    """
    check_indicator(config)
    return 2 * modalities if config.data.modality_indicator else modalities


def input_names(config: TrainConfig, modalities: Sequence[str]) -> tuple[str, ...]:
    """Names of the input channels of a network, in order; errors are those of :func:`input_channels`."""
    stated = [f"{name} exists" for name in modalities]
    return (*modalities, *stated)[: input_channels(config, len(modalities))]


def check_indicator(config: TrainConfig) -> None:
    """Check that the network takes the channels of ``modality_indicator``, if they are chosen.

    Raises
    ------
    ConfigError
        If the architecture is unknown, or takes no such channels.
    """
    if not config.data.modality_indicator:
        return
    entry = architecture(config.model.model)
    if entry.no_indicator:
        raise ConfigError(
            f"modality_indicator: expected a network that reads all input channels together, got {entry.name}: "
            f"{entry.no_indicator}; choose another network, or leave the indicator out"
        )


def size_divisor(config: ModelConfig) -> int:
    """Number of voxels of which each side of a sub-volume should be a multiple; other sizes are padded to one.

    Raises
    ------
    ConfigError
        If the architecture is unknown.
    """
    entry = architecture(config.model)
    return entry.divisor(entry.resolve(config))
