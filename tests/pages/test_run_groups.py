"""Groups on the Runs page without a browser: one row in the table, scores of all folds, actions on all runs."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from core import runs
from core.checkpointing.metadata import CheckpointMetadata
from core.evaluation.metrics import SubjectScore
from core.runs import groups
from core.runs.group_scores import CrossValidation, HeldOutSubject
from core.runs.store.groups import Group, read_groups
from tests.core.runs.test_groups import set_state
from tests.support.app_pages import button_labels, click, component_data, open_page, run_page, texts
from tests.support.balls import tiny, write_balls
from tests.support.run_folders import make_run

pytestmark = [pytest.mark.usefixtures("empty_app", "known_cost"), pytest.mark.slow]


@pytest.fixture
def group(checkpoints: Path, empty_app: Path) -> Group:
    """Three queued folds."""
    return groups.submit_folds(checkpoints, tiny(path=str(write_balls(empty_app / "balls"))), "net")


def test_group_is_one_row_and_opens_by_its_address(checkpoints: Path, group: Group) -> None:
    other = make_run(checkpoints, "other")
    app = open_page("runs", group=group.id)
    rows = component_data(app, "rows")["rows"]
    assert {(row["id"], row["group"], row["epoch"]) for row in rows if row["id"] != other} == {
        (group.id, True, "0/3 runs")
    }
    assert other in {row["id"] for row in rows} and len(rows) == 2
    assert [header.value for header in app.header] == ["net"]
    assert "0 of 3 folds finished" in texts(app) and "The scores follow" in texts(app)


def test_subject_that_was_finished_since_the_scores_were_read_is_not_segmented_again(
    checkpoints: Path, group: Group, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first, second, _ = group.runs
    for run in (first, second):
        set_state(checkpoints, run, "finished")
    missing = tuple(HeldOutSubject(f"ball_{n}", run, None, "not segmented yet") for n, run in ((0, first), (1, second)))
    monkeypatch.setattr("ui.shared.cache.cross_validation", lambda *_: CrossValidation(("bright",), missing, {}))
    monkeypatch.setattr("core.runs.run_checkpoint", lambda folder: folder / "best.safetensors")
    metadata = CheckpointMetadata({}, [], (), None, dataset={"path": str(tmp_path)})
    monkeypatch.setattr("ui.shared.cache.checkpoint_metadata", lambda _: metadata)
    finished = {"ball_0"}

    def unfinished(root: Path, checkpoint: Path, data: Path, subjects: list[str]) -> list[str]:
        return [subject for subject in subjects if subject not in finished]

    started: list[tuple[str, list[str]]] = []

    def start(checkpoint: Path, data: Path, subjects: list[str]) -> None:
        started.append((checkpoint.parent.name, subjects))
        finished.update(subjects)

    monkeypatch.setattr("ui.shared.evaluation_job._missing", unfinished)
    monkeypatch.setattr("ui.shared.evaluation_job.start", start)
    app = open_page("runs", group=group.id)
    assert "Score 1 subject" in button_labels(app)
    app = click(app, "Score 1 subject")
    assert started == [(second, ["ball_1"])], "the one that is finished is not made again, nor is this one"
    assert not any(label.startswith("Score") for label in button_labels(app))


def test_member_links_to_its_group(group: Group) -> None:
    app = open_page("runs", run=group.runs[1])
    assert [header.value for header in app.header] == ["net fold 1"]
    assert "net" in [link.proto.label for link in app.get("page_link")]


def test_newest_runs_of_a_group_are_shown_as_the_group(group: Group) -> None:
    assert [header.value for header in open_page("runs").header] == ["net"]


def test_group_in_the_place_of_a_run_in_the_address_is_shown(group: Group) -> None:
    assert [header.value for header in open_page("runs", run=group.id).header] == ["net"]
    assert [header.value for header in open_page("runs", run=group.runs[1]).header] == ["net fold 1"]


def test_unknown_group_in_address_is_reported(group: Group) -> None:
    assert "There is no group called gone" in texts(open_page("runs", group="gone"))


def test_scores_show_mean_both_spreads_and_what_is_missing(
    checkpoints: Path, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    def score(dice: float) -> SubjectScore:
        return SubjectScore({"bright": dice}, {"bright": 1.5}, {"bright": 0.5}, (), {})

    first, second, third = group.runs
    scores = CrossValidation(
        ("bright",),
        (
            HeldOutSubject("ball_0", first, score(0.9)),
            HeldOutSubject("ball_1", first, score(0.8)),
            HeldOutSubject("ball_2", second, score(0.5)),
            HeldOutSubject("ball_3", second, None, "not segmented yet"),
        ),
        {third: "no checkpoint yet, it is queued"},
    )
    monkeypatch.setattr("ui.shared.cache.cross_validation", lambda *_: scores)
    app = open_page("runs", group=group.id)
    table = "".join(str(element.proto.body) for element in app.get("html"))
    for cell in ("0.733", "0.208", "0.247", "1.50", "0.50"):  # mean, SD of subjects, SD of 0.85 and 0.5
        assert f">{cell}</td>" in table
    assert "3 of 4 held-out subjects scored so far." in texts(app)
    frame = app.dataframe[0].value
    assert list(frame["subject"]) == ["ball_2", "ball_1", "ball_0", "ball_3"]
    assert math.isnan(frame["mean"][3]) and frame["missed"][3] == "not segmented yet"


def test_drawing_again_reads_neither_ended_states_nor_scores_unless_they_changed(
    checkpoints: Path, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    for member in group.runs:
        set_state(checkpoints, member, "finished")
    counted: list[int] = []

    def count(root: Path, summary: groups.GroupSummary) -> CrossValidation:
        counted.append(1)
        return CrossValidation((), (), {})

    monkeypatch.setattr("core.runs.group_scores.cross_validation", count)
    app = open_page("runs", group=group.id)
    assert counted == [1]
    monkeypatch.setattr(
        "core.runs.store.reconciliation.read_state", lambda folder: pytest.fail(f"{folder} is read again")
    )
    run_page(app)
    assert counted == [1] and not app.exception
    kept = checkpoints / group.runs[0] / "predictions" / "balls"
    kept.mkdir(parents=True)
    run_page(app)
    assert counted == [1, 1], "a run has kept predictions"
    (kept / "ball_0.json").write_text("{}")
    run_page(app)
    assert counted == [1, 1, 1], "a prediction was written"


def test_all_runs_are_stopped_resumed_and_deleted_together(checkpoints: Path, group: Group) -> None:
    app = open_page("runs", group=group.id)
    app = run_page(app.button(key=f"stop-now-{group.id}").click())
    assert {run.state.state for run in runs.list_runs(checkpoints)} == {"stopped"}
    app = click(app, "Resume all")
    assert runs.queued_runs(checkpoints) == list(group.runs)
    assert "Resume all" not in button_labels(app)
    run_page(app.button(key=f"delete-False-{group.id}").click())
    assert runs.list_runs(checkpoints) == [] and read_groups(checkpoints) == []


def test_missing_fold_is_queued_again_and_a_refit_beside_the_group(checkpoints: Path, group: Group) -> None:
    for member in group.runs:
        set_state(checkpoints, member, "finished")
    runs.delete(checkpoints, group.runs[2])
    app = click(open_page("runs", group=group.id), "Queue 1 missing fold")
    assert runs.queued_runs(checkpoints) == [group.runs[2]]
    app = click(app, "Train on all subjects")
    (refit,) = set(runs.queued_runs(checkpoints)) - {group.runs[2]}
    run = runs.get_run(checkpoints, refit)
    assert (run.name, run.config.split.holds_out_nothing) == ("net refit", True)
    assert [header.value for header in app.header] == ["net refit"]
    assert "holds out none: no Dice is measured" in texts(app)
    assert "Best mean Dice" not in [metric.label for metric in app.metric]


def test_one_click_on_train_queues_all_folds(checkpoints: Path, empty_app: Path) -> None:
    write_balls(empty_app / "balls")
    app = open_page("train", data="balls", preset="quick")
    click(app, "Train all folds")
    (made,) = read_groups(checkpoints)
    assert runs.queued_runs(checkpoints) == list(made.runs) and len(made.runs) == 5
