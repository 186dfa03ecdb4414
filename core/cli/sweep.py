"""``sweep``: search for good values of fields; prints the id of the sweep and returns at once.

``runs group`` shows the trials; ``runs stop``, ``resume``, ``extend``, ``rename`` and ``delete`` take the id or name.
"""

from __future__ import annotations

import argparse

from core.cli.arguments import add_engine
from core.cli.options import add_config_flags, add_flags, config_from, given_values
from core.errors import ConfigError
from core.fields import specs_of
from core.paths import checkpoints_root
from core.runs.store.engine_records import LOCAL
from core.runs.sweeps import submit_sweep
from core.sweeps.settings import SweepOptions, SweepSettings
from core.sweeps.space import parse_space

EXAMPLES = (
    "FIELD=LOW:HIGH, LOW:HIGH:log (by orders of magnitude), LOW:HIGH:STEP, or FIELD=A,B,...; numbers of a list are "
    "joined by x: channels=16x32x64,32x64x128. Options of a network or loss are searched only where it uses them."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_config_flags(parser)
    add_engine(parser)
    parser.epilog = (
        "Example: sweep DATA --minutes 10 --search learning_rate=1e-3:1e-1:log --search loss=dice,dice_ce --trials 20. "
        "All trials have the same fold, seed and budget; they are compared by their best Dice on held-out whole "
        "volumes, or on sub-volumes with --whole-every 0."
    )
    group = parser.add_argument_group(*(SweepOptions.__doc__ or "").split(": ", 1))
    group.add_argument(
        "--search",
        metavar="FIELD=VALUES",
        action="append",
        default=[],
        help=f"a field to search, once each; {EXAMPLES}",
    )
    add_flags(group, specs_of(SweepOptions, section=""), "sweep_")


def run(args: argparse.Namespace) -> int:
    """Start the sweep.

    Raises
    ------
    UserError
        If a value, the search or the data set cannot be used.
    """
    if not args.search:
        raise ConfigError(f"search: expected one or more --search FIELD=VALUES, got none: {EXAMPLES}")
    options = SweepOptions(**given_values(args, specs_of(SweepOptions, section=""), "sweep_"))
    settings = SweepSettings(parse_space(args.search), options, engine="" if args.engine == LOCAL else args.engine)
    print(submit_sweep(checkpoints_root(args.checkpoints), config_from(args), settings, args.name).id, flush=True)
    return 0
