"""Command-line flags made from the configuration's fields: all of them for ``train`` and ``submit``, those of reading a
data set for every command that reads one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.cli.arguments import add_data
from core.cli.command_parser import TRUE
from core.config import TrainConfig, field_specs, section_titles
from core.fields import FieldSpec
from core.losses import unused_options
from core.models import MODELS, architecture, name_own_network, unused_model_options
from core.models.own_networks import is_file_reference
from core.paths import absolute_path, checkpoints_root
from core.presets import AUTO, DEFAULT_PRESET, PRESET_HELP, PRESET_NAMES, PRESETS, preset

if TYPE_CHECKING:
    from core.checkpointing.metadata import CheckpointMetadata
    from core.config import DataConfig
    from core.datasets import DataOptions

AS_IN_TRAINING = "as in training"
ALL_FOLDS = "all"
FIELD_PREFIX = "field_"  # of the names of fields among the parsed arguments


def add_config_flags(parser: argparse.ArgumentParser) -> None:
    """Add DATA, ``--preset``, ``--name`` and one flag per configuration field, grouped by section."""
    add_data(parser, "folder of the data set, or 'demo' for the synthetic demo data")
    parser.add_argument(
        "--preset",
        default=DEFAULT_PRESET,
        metavar="|".join(PRESET_NAMES),
        help="values to start from; " + "; ".join(f"{name}: {help}" for name, help in PRESET_HELP.items()),
    )
    parser.add_argument("--name", metavar="TEXT", default="", help="name of the run; its id begins with it")
    groups = {s: parser.add_argument_group(title, text) for s, (title, text) in section_titles().items()}
    for spec in field_specs():
        if spec.name != "path":
            _add_flag(groups[spec.section], spec)


def add_data_options(parser: argparse.ArgumentParser, names: Collection[str] = (), default: str = "") -> None:
    """Add the flags of :class:`~core.datasets.options.DataOptions`.

    Parameters
    ----------
    names : collection of str. Names of the options; empty for all.
    default : str. Text for a default that is not that of the field.
    """
    from core.datasets import DataOptions

    for spec in field_specs():
        if spec.name in (names or DataOptions.names()):
            _add_flag(parser, spec, default)


def data_options_from(args: argparse.Namespace, trained: DataConfig | None = None) -> DataOptions:
    """The parsed options of reading a data set.

    Parameters
    ----------
    trained : DataConfig, optional. Configuration of a model's training, for the values of flags that are not given.

    Raises
    ------
    ConfigError
        If a value is not allowed.
    """
    from core.datasets import DataOptions

    given = {name: value for name, value in _given_values(args).items() if name in DataOptions.names()}
    return replace(DataOptions() if trained is None else DataOptions.from_config(trained), **given)


def model_data_options(args: argparse.Namespace, metadata: CheckpointMetadata, folder: Path) -> DataOptions:
    """The parsed options of reading a data set for a model: what is not given is as in its training, also the layout of
    the folder that it was trained on.

    Raises
    ------
    ConfigError
        If a value is not allowed.
    """
    options = data_options_from(args, metadata.train_config.data)
    is_own = metadata.is_training_data(folder)
    return replace(options, layout=metadata.train_config.data.layout) if is_own else options


def takes_all_folds(args: argparse.Namespace) -> bool:
    """Whether ``--fold all`` is given, which a configuration cannot hold; it is removed from the parsed flags."""
    if getattr(args, "field_fold", "").strip().lower() != ALL_FOLDS:
        return False
    del args.field_fold
    return True


def config_from(args: argparse.Namespace) -> TrainConfig:
    """The configuration from the parsed flags; the preset ``auto`` reads the headers of the data set.

    Raises
    ------
    UserError
        If a value is not allowed, or the preset ``auto`` needs a data set that cannot be opened.
    """
    base = preset(args.preset)
    values = _given_values(args)
    if is_file_reference(values.get("model", "")):
        values["model"] = name_own_network(values["model"])
    elif "model" in values:
        values["model"] = architecture(values["model"]).name
    if values.get("layout", "").lower().endswith(".toml"):  # a run is trained in another working directory
        values["layout"] = str(absolute_path(values["layout"]))
    if "epochs" in values and "minutes" not in values:
        values["minutes"] = 0.0
    config = base.with_values({"path": args.data, **values})
    if args.preset != AUTO:
        return config
    from core.cli.auto_preset import choose_values  # reads files

    root = checkpoints_root(getattr(args, "checkpoints", None))
    return choose_values(config, values, root, getattr(args, "engine", ""))


def run_config(args: argparse.Namespace) -> TrainConfig:
    """The configuration of a run (:func:`config_from`), after saying which given options its network or its loss does
    not use."""
    config, given = config_from(args), _given_values(args)
    model, loss = config.model.model, config.loss.loss
    flags = {spec.name: spec.flag for spec in field_specs()}
    for user, unused in ((model, unused_model_options(model)), (loss, unused_options(loss))):
        if without := [flags[name] for name in given if name in unused]:
            print(f"note: without effect, as {user} does not use it: {', '.join(without)}", file=sys.stderr)
    return config


def add_flags(parser: argparse._ActionsContainer, specs: Sequence[FieldSpec], prefix: str) -> None:
    """Add the flags of fields that belong to no configuration; :func:`given_values` reads them.

    Parameters
    ----------
    prefix : str. Beginning of their names among the parsed arguments.
    """
    for spec in specs:
        _add_flag(parser, spec, prefix=prefix)


def given_values(args: argparse.Namespace, specs: Sequence[FieldSpec], prefix: str) -> dict[str, Any]:
    """Values, by field name, of the flags that are given.

    Raises
    ------
    ConfigError
        If a value is not allowed.
    """
    texts = {spec.name: getattr(args, f"{prefix}{spec.name}", None) for spec in specs}
    return {spec.name: spec.parse(text) for spec in specs if (text := texts[spec.name]) is not None}


def _add_flag(
    parser: argparse._ActionsContainer, spec: FieldSpec, default: str = "", prefix: str = FIELD_PREFIX
) -> None:
    switch: dict[str, Any] = {"nargs": "?", "const": TRUE} if spec.type is bool else {}
    parser.add_argument(
        spec.flag,
        dest=f"{prefix}{spec.name}",
        metavar=_metavar(spec),
        default=argparse.SUPPRESS,
        help=_help(spec, default),
        **switch,
    )


def _given_values(args: argparse.Namespace) -> dict[str, Any]:
    """Values, by field name, of the flags of the configuration that are given."""
    return given_values(args, field_specs(), FIELD_PREFIX)


def _metavar(spec: FieldSpec) -> str:
    if spec.choices:
        return "|".join(spec.choices)
    if spec.item_type is not None:
        return "I,J,K" if spec.length == 3 else "A,B,..."
    return {int: "N", float: "X", bool: "true|false", str: "TEXT"}[spec.type]


def _help(spec: FieldSpec, default: str) -> str:
    unit = f" [{spec.unit}]" if spec.unit else ""
    if spec.name == "model":
        unit = f"; the program's are {', '.join(MODELS)}"
    preset_values = {name: spec.format(values[spec.name]) for name, values in PRESETS.items() if spec.name in values}
    default = default or spec.format(spec.default) or "from the data"
    presets = "".join(f", {name}: {value}" for name, value in preset_values.items() if value != default)
    return f"{spec.help}{unit} (default: {default}{presets})".replace("%", "%%")
