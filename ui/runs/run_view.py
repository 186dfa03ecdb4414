"""The view of a selected run: progress, message, log, configuration, notes and facts."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day
from pathlib import Path

import streamlit as st

from core import runs
from core.config import changed_fields, field_specs
from core.errors import UserError
from core.formatting import format_duration, format_number, format_score
from core.presets import PRESET_NAMES, command_line, preset
from core.runs import RunState, RunSummary, groups
from core.runs.engines.registry import get_engine
from core.runs.hand_over import is_unconfirmed
from core.runs.place import run_place
from core.runs.store.groups import FOLDS
from ui.runs.actions import attempt
from ui.runs.postprocessing_view import show_postprocessing
from ui.runs.results import NOTHING_MEASURED, best_dice
from ui.runs.states import STATE_ICONS, next_step
from ui.shared import formatting
from ui.shared.navigation import tab_title

LOG_LINES = 200
MIDNIGHT = datetime(2000, 1, 2, tzinfo=UTC)
MAX_CLASSES = 4  # with more, Dice per class is shown only in the chart
FROM_DATA = "from the data"
UNCONFIRMED = (
    "Its job is shown here once the cluster says that it has it; once it says that there is none, the run has failed. "
    "*Submit again* looks for the job first, so that there is no second one."
)


def status(root: Path, run_id: str, every_s: float | None) -> None:
    """Show numbers and message of a run.

    Parameters
    ----------
    root : Path. Folder of the runs.
    run_id : str. Id of the run.
    every_s : float, optional. Interval of updates in seconds; ``None`` for a run that has ended.
    """

    @st.fragment(run_every=every_s)
    def fragment() -> None:
        try:
            run = runs.get_run(root, run_id)
        except UserError:
            return  # deleted elsewhere: the fragment of the table runs the page again
        _tab_title(run)
        if run.state.epoch or run.state.state in ("running", "stopping"):
            _numbers(run, best_dice(root, run))
        if run.config.split.holds_out_nothing:
            st.caption(NOTHING_MEASURED)
        if run.progress is not None:
            st.progress(run.progress)
        if warning := run.state.facts.get("warning"):
            st.warning(formatting.plain(formatting.sentence(warning)), icon=":material/warning:")
        _message(run, _queue_position(root, run))

    fragment()


def report_problem(run: RunSummary) -> None:
    """Say what of a run's folder cannot be read; its data, preset and configuration are then those of no run."""
    if run.problem:
        st.warning(
            f"**A file of this run cannot be read.** {formatting.plain(formatting.sentence(run.problem))}  \n"
            "What follows from its settings (data, preset, duration of an epoch) is not known, and shown as of the "
            "default configuration.",
            icon=":material/report:",
        )


def details(root: Path, run: RunSummary) -> None:
    """Show log, configuration, notes, facts, the TensorBoard command and the postprocessing in tabs."""
    titles = ["Log", "Configuration", "Notes", "Facts", "TensorBoard", "Postprocessing"]
    log, configuration, notes, facts, tensorboard, postprocessing = st.tabs(titles)
    with log:
        _log(root, run)
    with configuration:
        _configuration(run)
    with notes:
        _notes(root, run)
    with facts:
        _facts(run)
    with tensorboard:
        st.caption("Loss, Dice, every class, learning rate and a slice picture per validation:")
        st.code(run.tensorboard, language="bash", wrap_lines=True)
    with postprocessing:
        _postprocessing(root, run)


def _tab_title(run: RunSummary) -> None:
    """The title of the browser tab: progress or state, Dice, name."""
    done = run.state.state if run.progress is None else f"{run.progress:.0%}"
    best = run.state.score
    tab_title(done, f"Dice {format_score(best.mean_dice)}" if best and best.mean_dice is not None else "", run.name)


def _numbers(run: RunSummary, dice: Mapping[str, float]) -> None:
    """Best Dice, Dice per class if the classes are few, progress and speed."""
    state, score = run.state, run.state.score
    numbers = [("Epoch", f"{state.epoch} / {formatting.total_epochs(run)}" if state.epochs else "–")]
    if state.active:
        numbers += [
            ("Time left", format_duration(state.remaining_s)),
            ("Per epoch", _epoch_duration(run)),
            ("Sub-volumes / s", format_number(state.sub_volumes_per_s or None, 2)),
        ]
    numbers.append(("Elapsed", format_duration(state.elapsed_s or None)))
    with st.grid("auto", min_column_width=128, gap="small"):
        if not run.config.split.holds_out_nothing:
            title = "Best mean Dice" if state.best is score else "Mean Dice so far"
            st.metric(title, format_score(score.mean_dice if score else None), help=_measured_on(state))
        if len(dice) <= MAX_CLASSES:
            for name, value in dice.items():
                st.metric(
                    formatting.plain(name), format_score(value), help=f"Dice of this class. {_measured_on(state)}"
                )
        for name, text in numbers:
            st.metric(name, text)


def _epoch_duration(run: RunSummary) -> str:
    """Duration of the training steps of an epoch at the speed just measured."""
    speed = run.state.sub_volumes_per_s
    return format_duration(run.config.sampling.samples_train / speed if speed else None)


def _queue_position(root: Path, run: RunSummary) -> str:
    """A sentence about the runs before a queued run; empty for other runs."""
    queue = runs.queued_runs(root)
    if run.state.state != "queued" or run.id not in queue:
        return ""
    before = queue.index(run.id)
    return f"{formatting.count(before, 'queued run')} before it." if before else "It is next."


def _measured_on(state: RunState) -> str:
    score = state.score
    if score is None or score.mean_dice is None:
        return "No measurement."
    return f"Epoch {score.epoch}, measured on {score.measured_on or 'validation sub-volumes'}, background left out."


def _message(run: RunSummary, queue_position: str) -> None:
    """What a run does now, or how it ended; while it is prepared, a bar.

    Parameters
    ----------
    run : RunSummary. The run.
    queue_position : str. Sentence about the queue, for a queued run.
    """
    state = run.state
    reason = formatting.plain(state.message.removesuffix("; it can be resumed").removesuffix("; resume it"))
    if state.state in ("failed", "crashed"):
        text = f"**It {state.state}:** {formatting.with_full_stop(reason) or 'no message.'}  \n{next_step(run)}"
        st.error(text, icon=":material/error:")
    elif state.state == "stopped":
        st.caption(f"Stopped{': ' + reason if reason else ''}. {next_step(run)}")
    elif state.state in runs.OBSERVED:
        title = "Its heartbeat has stopped" if state.state == "stalled" else "No heartbeat arrives"
        why = formatting.with_full_stop(formatting.sentence(state.message))
        st.warning(
            f"**{title}:** {formatting.plain(why)}  \n{next_step(run)}",
            icon=STATE_ICONS[state.state],
        )
    elif is_unconfirmed(run):
        st.warning(f"**{formatting.sentence(reason)}**  \n{UNCONFIRMED}", icon=":material/help:")
    elif state.state == "queued" and state.message:
        st.caption(f"Queued: {reason}.")
    elif state.state == "queued":
        st.caption(f"Queued: each GPU, or else the CPU, trains one run at a time. {queue_position}")
    elif (stalled_s := state.stalled_s(time.time())) is not None:
        st.warning(
            f"**No update for {format_duration(stalled_s)}.** The run may be waiting for a disk or a network, or hang; "
            "its machine may have been suspended. It is not ended automatically: wait, or stop and resume it.",
            icon=":material/hourglass_disabled:",
        )
    elif state.state == "stopping":
        st.caption("It saves a checkpoint and ends.")
    elif state.active and state.total:
        preparing = "Preparing: " if state.state == "starting" else ""
        activity = state.what.removesuffix(f" {state.done}/{state.total}")
        text = f"{formatting.sentence(preparing + activity)}, {state.done} of {state.total} done."
        note = " The time budget begins with the first step." if preparing and run.config.run.minutes > 0 else ""
        st.progress(min(1.0, state.done / state.total), formatting.plain(text + note))
    elif state.active:
        st.caption(formatting.plain(formatting.sentence(state.what or "starting")))
    elif state.score is not None and state.score.mean_dice is not None:
        st.caption(_measured_on(state))


def _log(root: Path, run: RunSummary) -> None:
    @st.fragment(run_every=3.0 if run.state.active else None)
    def fragment() -> None:
        try:
            text = runs.log_tail(root, run.id, LOG_LINES)
        except UserError:
            return
        if text:
            long = text.count("\n") > 8
            st.code(_in_time_zone(text), language=None, height=260 if long else "content", wrap_lines=True)
            st.caption(f"Times in {formatting.zone_name()}.")
        else:
            st.caption("The log is empty.")
        _job_output(root, run)

    fragment()


def _job_output(root: Path, run: RunSummary) -> None:
    """What the engine itself wrote about a run on a cluster, below the log."""
    if run.engine is None:
        return
    try:
        text = get_engine(root, run.engine.engine).logs(run.folder)
    except UserError as error:  # no longer declared
        st.caption(formatting.plain(str(error)))
        return
    if text:
        st.caption(f"Output of job {formatting.plain(run.engine.job)}:")
        st.code(text, language=None, wrap_lines=True)


def _in_time_zone(log: str) -> str:
    """A log, whose lines begin with the time in UTC, with times of the person's time zone."""
    offset = datetime.now(formatting.time_zone()).utcoffset() or timedelta()

    def shifted(match: re.Match[str]) -> str:
        return f"{datetime.combine(MIDNIGHT, time_of_day.fromisoformat(match[0])) + offset:%H:%M:%S}"

    return re.sub(r"^([01]\d|2[0-3]):[0-5]\d:[0-5]\d(?=  )", shifted, log, flags=re.MULTILINE)


def _configuration(run: RunSummary) -> None:
    base = preset(run.config.preset) if run.config.preset in PRESET_NAMES else type(run.config)()
    specs = {spec.name: spec for spec in field_specs()}
    rows = [
        {
            "field": name,
            "preset": specs[name].format(old) or FROM_DATA,
            "this run": specs[name].format(new) or FROM_DATA,
        }
        for name, (old, new) in changed_fields(run.config, base).items()
        if name != "path"
    ]
    st.caption(f"Preset {formatting.plain(run.config.preset)} on {formatting.plain(run.config.data.path or '–')}")
    if rows:
        st.dataframe(rows, hide_index=True, width="stretch", alt="Fields that differ from the preset")
    else:
        st.caption("No field differs from the preset.")
    for reason in run.config.reasons:
        st.caption(formatting.plain(reason))
    where = f" --engine {run.engine.engine}" if run.engine is not None else ""
    st.code(command_line(run.config, name=run.given_name) + where, language="bash", wrap_lines=True)


def _notes(root: Path, run: RunSummary) -> None:
    """Notes and tags of the run; the filter of the table searches tags."""
    text = st.text_area("Notes", value=run.notes, height=120, key=f"notes-{run.id}", placeholder="Purpose, results")
    known = sorted({tag for other in runs.list_runs(root) for tag in other.tags} | set(run.tags))
    tags = st.multiselect(
        "Tags", known, default=list(run.tags), accept_new_options=True, key=f"tags-{run.id}", placeholder="Add tags"
    )
    if st.button("Save", key=f"annotate-{run.id}", disabled=(text, tuple(tags)) == (run.notes, run.tags)):
        attempt(lambda: runs.annotate(root, run.id, notes=text, tags=tags))


def _postprocessing(root: Path, run: RunSummary) -> None:
    """The postprocessing of its network; one that was trained on every subject is decided by a group of folds."""
    checkpoint = runs.run_checkpoint(run.folder)
    if checkpoint is None or run.state.state not in runs.ENDED:
        st.caption("It can be chosen once the run has ended with a checkpoint.")
        return
    by = None
    if run.config.split.holds_out_nothing:
        of_data = [g for g in groups.list_groups(root) if g.group.config.data.path == run.config.data.path]
        by = {g.group.id: g.group.name for g in of_data if g.group.kind == FOLDS and g.finished}
    show_postprocessing(checkpoint, by)


def _facts(run: RunSummary) -> None:
    state, place = run.state, run_place(run)
    times = {"created": state.created_at, "started": state.started_at, "ended": state.ended_at}
    facts = {
        "run": run.id,
        "engine": f"{run.engine.engine}, job {run.engine.job or 'none yet'}" if run.engine is not None else "",
        "host": place.hosts,
        "history": place.history,
        **{name: formatting.moment(at) for name, at in times.items() if at},
        **state.facts,
        "classes": ", ".join(state.classes[1:]),
        "folder": str(run.folder),
    }
    rows = [{"fact": name, "value": str(value)} for name, value in facts.items() if value]
    columns = {"fact": st.column_config.TextColumn(width="small"), "value": st.column_config.TextColumn(width="large")}
    st.dataframe(rows, hide_index=True, width="stretch", column_config=columns, alt="Facts about the run")
