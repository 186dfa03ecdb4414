"""The Review page without a browser: models, cases, scores, segmentation on demand, failures."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core.checkpointing.checkpoint import load, save
from core.cli import main
from core.paths import demo_model_path
from core.runs import run_checkpoint
from tests.support.app_pages import (
    button_labels,
    choose,
    click,
    component_data,
    hide_demo_model,
    open_page,
    simulate_demo_subject,
    texts,
)
from tests.support.background_jobs import poll
from tests.support.balls import untrained_run
from tests.support.described_balls import write_described_balls
from tests.support.kept_epochs import keep_epochs
from tests.support.quiz_runs import SUBJECTS, QuizRun, use_copy
from tests.support.volume_files import make_nnunet
from ui.shared import evaluation_job
from ui.shared.data_choice import TRAINING_DATA

HELD_OUT = SUBJECTS // 3


@pytest.fixture
def root(quiz_run: QuizRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the trained run, whose held-out subjects are segmented."""
    return use_copy(quiz_run, tmp_path, monkeypatch)


@pytest.mark.slow  # the run is trained once
def test_unsegmented_case_offers_a_segmentation(root: Path, quiz_run: QuizRun) -> None:
    shutil.rmtree(root / quiz_run.run / "predictions")
    app = open_page("review", model=quiz_run.run)
    cases = component_data(app, "selected")
    assert [row["value"] for row in cases["rows"]] == ["–"] * HELD_OUT and cases["selected"]
    assert {"Segment this case", f"Segment all {HELD_OUT} remaining cases"} <= set(button_labels(app))


@pytest.mark.slow
def test_segmentation_that_ends_while_the_page_runs_is_shown_and_not_made_again(
    root: Path, quiz_run: QuizRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictions, later = root / quiz_run.run / "predictions", root / quiz_run.run / "later"
    predictions.rename(later)
    pending, started = evaluation_job.pending, []

    def ended_now(checkpoint: Path, data: Path) -> list[str]:
        if later.exists():
            later.rename(predictions)
        return pending(checkpoint, data)

    monkeypatch.setattr(evaluation_job, "pending", ended_now)
    monkeypatch.setattr(evaluation_job, "start", lambda *request: started.append(request))
    app = open_page("review", model=quiz_run.run)
    assert "Segment this case" not in button_labels(app) and not started
    assert "–" not in [row["value"] for row in component_data(app, "selected")["rows"]]


@pytest.mark.slow
def test_data_set_of_the_training_is_known_by_its_folder(root: Path, quiz_run: QuizRun) -> None:
    app = open_page("review", model=quiz_run.run, data=str(quiz_run.data))
    assert not app.warning and app.selectbox(key="review_data-False").value == TRAINING_DATA
    elsewhere = open_page("review", model=quiz_run.run, data=str(quiz_run.data.parent / "gone"))
    assert any("There is no data set called" in warning.value for warning in elsewhere.warning)


@pytest.mark.slow
def test_kept_predictions_are_shown_with_scores_and_the_worst_case_first(
    root: Path, quiz_run: QuizRun, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", quiz_run.run, str(quiz_run.data), "--json"]) == 0
    scores = {s["id"]: sum(s["dice"].values()) / 2 for s in json.loads(capsys.readouterr().out)["subjects"]}
    app = open_page("review", model=quiz_run.run)
    cases = component_data(app, "selected")
    assert [row["id"] for row in cases["rows"]] == sorted(scores, key=lambda id: scores[id])
    assert [row["value"] for row in cases["rows"]] == [f"{dice:.3f}" for dice in sorted(scores.values())]
    scene = component_data(app, "grid")
    assert set(scene["layers"]) == {"truth", "prediction"} and scene["rows"] == ["truth", "prediction", "errors"]
    assert f"n = {HELD_OUT}" in texts(app)
    table = "\n".join(e.proto.body for e in app.get("html"))  # type: ignore[attr-defined]
    assert f"{scores[cases['selected']]:.3f}" in table
    assert not [label for label in button_labels(app) if label.startswith("Segment")]
    choose(app, "Cases", "all")
    rows = component_data(app, "selected")["rows"]
    assert len(rows) == SUBJECTS and [row["waiting"] for row in rows] == [False] * HELD_OUT + [True] * (
        SUBJECTS - HELD_OUT
    )


@pytest.mark.slow
def test_next_case_keeps_the_model(root: Path, quiz_run: QuizRun) -> None:
    app = open_page("review", model=quiz_run.run)
    before = app.session_state["case"]
    click(app, "Next")
    assert app.session_state["case"] != before and app.session_state["model"] == quiz_run.run


@pytest.mark.long
@pytest.mark.slow
def test_finished_segmentation_of_a_case_says_nothing_about_the_next_case_or_the_quiz(
    root: Path, quiz_run: QuizRun
) -> None:
    """With the real command in a child process."""
    shutil.rmtree(root / quiz_run.run / "predictions")
    app = click(open_page("review", model=quiz_run.run), "Segment this case")
    checkpoint = run_checkpoint(root / quiz_run.run)
    assert checkpoint is not None
    assert "Segment this case" not in button_labels(app)
    assert "Segment this case" in button_labels(click(app, "Next")), "while the first one is segmented"
    poll(lambda: evaluation_job.pending(checkpoint, quiz_run.data), lambda left: not left)
    app = open_page("review", model=quiz_run.run, case=app.session_state["case"])
    assert not app.error and "Segment this case" in button_labels(app)
    quiz = open_page("quiz", model=quiz_run.run)
    assert not quiz.error and "1 of them segmented" in texts(quiz)


@pytest.mark.slow
def test_damaged_checkpoint_is_reported(root: Path, quiz_run: QuizRun) -> None:
    for file in (root / quiz_run.run).glob("*.safetensors"):
        file.write_bytes(b"no checkpoint")
    app = open_page("review", model=quiz_run.run)
    assert len(app.error) == 1 and "checkpoint" in app.error[0].value


@pytest.mark.slow
def test_warnings_of_a_prediction_stay_with_its_case(root: Path, quiz_run: QuizRun) -> None:
    (record, *_) = sorted((root / quiz_run.run / "predictions").glob("*/*.json"))
    content = json.loads(record.read_text())
    content["warnings"] = ["the voxels are 3 x 3 x 3 mm, those of training 1 x 1 x 1.5 mm"]
    record.write_text(json.dumps(content))
    app = open_page("review", model=quiz_run.run, case=content["subject"])
    assert "The voxels are 3 x 3 x 3 mm" in texts(app)
    quiz = open_page("quiz", model=quiz_run.run)
    assert f"{content['subject']}: the voxels are 3 x 3 x 3 mm" in texts(quiz)


@pytest.mark.slow
def test_missing_training_data_leaves_other_data_to_choose(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate_demo_subject(monkeypatch)
    run = untrained_run(checkpoints, "balls", ("M0",), dataset={"name": "Balls", "path": "/nonexistent/balls"})
    app = open_page("review", model=run)
    assert "the data it was trained on" not in app.selectbox[1].options


@pytest.mark.slow
def test_own_data_are_read_in_the_layout_of_training_and_other_classes_are_no_reference(
    checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGMENTARIUM_DATA", str(tmp_path))
    data, layout = write_described_balls(tmp_path / "described", 1)
    run = untrained_run(
        checkpoints, "described", ("T1", "T2"), config={"layout": str(layout)}, dataset={"path": str(data)}
    )
    make_nnunet(tmp_path / "other", 1)
    app = open_page("review", model=run)
    assert not app.error and component_data(app, "grid")["layers"].keys() == {"truth"}
    assert not any("no reference" in warning.value for warning in app.warning)
    app = open_page("review", model=run, data="other")
    assert "do not have bright, dark: there is no reference" in "".join(w.value for w in app.warning)
    assert not component_data(app, "grid")["layers"]


@pytest.mark.slow
def test_without_a_model_the_page_gives_the_reason(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide_demo_model(monkeypatch)
    assert "No model yet" in texts(open_page("review"))


@pytest.mark.slow
def test_ready_made_model_is_offered_on_first_start(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = simulate_demo_subject(monkeypatch)
    app = open_page("review")
    assert demo_model_path().is_file() and app.selectbox[0].value == "demo-model"
    assert started == ["subject-1"]


@pytest.mark.slow
def test_ensemble_is_a_model_whose_scores_on_seen_subjects_are_said_to_be_too_good(
    root: Path, quiz_run: QuizRun
) -> None:
    checkpoint = load(root / quiz_run.run / "best.safetensors")
    split = checkpoint.metadata.split
    checkpoint.metadata = replace(checkpoint.metadata, split={"train": split["val"], "val": split["train"]})
    save(root / "other-fold.safetensors", checkpoint)
    assert main(["ensemble", quiz_run.run, str(root / "other-fold.safetensors"), "--name", "pair"]) == 0
    data, subject = str(quiz_run.data), split["val"][0]
    assert main(["evaluate", "pair", data, "--subject", subject, "--keep"]) == 0
    app = open_page("review", model="ensembles/pair")
    assert not app.exception and not app.error
    shown = texts(app)
    assert "trained on by at least one of the networks" in shown and "2 networks" in shown
    assert "0.0 % of the pairs of networks disagree" in shown, "the weights are the same"
    assert component_data(app, "selected")["selected"] == subject
    quiz = open_page("quiz", model="ensembles/pair")
    assert not quiz.exception and "trained on every labelled subject" in texts(quiz)
    predict = open_page("predict", model="ensembles/pair")
    assert not predict.exception and "an ensemble of 2 networks" in texts(predict)


@pytest.mark.slow
def test_scores_of_training_cases_are_said_to_be_too_good(root: Path, quiz_run: QuizRun) -> None:
    remark = "The model was trained on 1 case of the 4 with a score"
    assert remark not in texts(open_page("review", model=quiz_run.run, cases="all"))
    trained = load(root / quiz_run.run / "best.safetensors").metadata.split["train"][0]
    assert main(["evaluate", quiz_run.run, str(quiz_run.data), "--subject", trained, "--keep"]) == 0
    assert remark in texts(open_page("review", model=quiz_run.run, cases="all"))
    assert remark not in texts(open_page("review", model=quiz_run.run)), "held-out cases alone"


@pytest.mark.slow
def test_list_is_sorted_by_the_measure_and_class_of_the_address(root: Path, quiz_run: QuizRun) -> None:
    app = open_page("review", model=quiz_run.run, sort="hd95_mm", of="bright")
    assert {box.label: box.value for box in app.selectbox}["Worst first by"] == "hd95_mm"
    (folder,) = (root / quiz_run.run / "predictions").iterdir()
    scores = [json.loads(file.read_text()) for file in folder.glob("*.json")]
    hd95_mm = {record["subject"]: record["score"]["hd95_mm"]["bright"] for record in scores}
    listed = component_data(app, "selected")
    found = [math.inf if hd95_mm[row["id"]] is None else hd95_mm[row["id"]] for row in listed["rows"]]
    assert found == sorted(found, reverse=True) and len(found) == HELD_OUT
    assert listed["plot"]["label"] == "HD95 (mm), bright"
    app.selectbox(key="review_sort").set_value("surface_dice-1").run()
    table = "\n".join(e.proto.body for e in app.get("html"))  # type: ignore[attr-defined]
    shown = next(r for r in scores if r["subject"] == component_data(app, "selected")["selected"])
    assert f"{shown['score']['surface_dice']['bright']['1']:.3f}" in table


@pytest.mark.slow
def test_filter_by_name_leaves_a_few_cases_or_says_that_none_passes(root: Path, quiz_run: QuizRun) -> None:
    app = open_page("review", model=quiz_run.run, cases="all", find=" BALL_3 ")
    assert [row["id"] for row in component_data(app, "selected")["rows"]] == ["ball_3"]
    app.text_input(key="review_filter").set_value("nothing").run()
    assert len(component_data(app, "selected")["rows"]) == SUBJECTS and "No case passes this filter" in texts(app)
    app = open_page("review", model=quiz_run.run, cases="all", list="not segmented")
    assert len(component_data(app, "selected")["rows"]) == SUBJECTS - HELD_OUT


@pytest.mark.slow
def test_files_and_surfaces_are_offered_of_a_segmented_case_only(root: Path, quiz_run: QuizRun) -> None:
    app = open_page("review", model=quiz_run.run)
    labels = [e.proto.label for e in app.get("download_button")]  # type: ignore[attr-defined]
    assert labels == [
        "Scores (CSV)", "Notes (CSV)", "Notes (JSON)", "Prediction", "Errors", "Contact sheet (PNG)",
        "Contact sheet (PDF)",
    ]  # fmt: skip
    surfaces = component_data(app, "grid")["surfaces"]
    assert surfaces.keys() == {"url", "picture"} and len(set(surfaces.values())) == 2
    choose(app, "Cases", "all")
    waiting = next(row["id"] for row in component_data(app, "selected")["rows"] if row["waiting"])
    app = open_page("review", model=quiz_run.run, cases="all", case=waiting)
    labels = [e.proto.label for e in app.get("download_button")]  # type: ignore[attr-defined]
    assert "Prediction" not in labels and "Segment this case first." in texts(app)
    assert component_data(app, "grid")["surfaces"] is None


@pytest.mark.slow
def test_figures_are_partial_until_the_voxels_are_counted_and_part_of_the_address(
    root: Path, quiz_run: QuizRun
) -> None:
    app = open_page("review", model=quiz_run.run, view="figures")
    assert not app.exception and len(app.get("plotly_chart")) == 1, "the volumes need no voxels"
    assert "Bland-Altman, n = 3" in texts(app) and f"Count the voxels of {HELD_OUT} cases" in button_labels(app)
    assert main(["review", "analyse", quiz_run.run, str(quiz_run.data), "--json"]) == 0
    figures: dict[str, Any] = {"view": "figures", "class": "dark"}
    app = open_page("review", model=quiz_run.run, **figures)
    assert not app.exception and len(app.get("plotly_chart")) == 4
    assert not [label for label in button_labels(app) if label.startswith("Count")]
    assert "Surface distances, dark" in texts(app)
    assert f"Compute the probabilities of {HELD_OUT} cases" in button_labels(app)
    assert main(["review", "calibration", quiz_run.run, str(quiz_run.data), "--json"]) == 0
    app = open_page("review", model=quiz_run.run, **figures)
    assert not app.exception and len(app.get("plotly_chart")) == 5 and "expected calibration error" in texts(app)
    assert not [label for label in button_labels(app) if label.startswith("Compute")]
    shutil.rmtree(root / quiz_run.run / "predictions")
    assert "are not segmented yet" in texts(open_page("review", model=quiz_run.run, view="figures"))


@pytest.mark.slow
def test_second_model_is_a_layer_of_the_viewer_and_a_table(root: Path, quiz_run: QuizRun) -> None:
    second: dict[str, Any] = {"with": f"{quiz_run.run}@last"}
    last = str(root / quiz_run.run / "last.safetensors")
    app = open_page("review", model=quiz_run.run, **second)
    assert not app.exception and set(component_data(app, "grid")["layers"]) == {"truth", "prediction"}
    assert "Segment this case with it" in button_labels(app)
    chosen = component_data(app, "selected")["selected"]
    assert main(["evaluate", last, str(quiz_run.data), "--subject", chosen, "--keep"]) == 0
    app = open_page("review", model=quiz_run.run, case=chosen, **second)
    scene = component_data(app, "grid")
    assert scene["rows"] == ["truth", "prediction", "second prediction"]
    assert "second prediction" in scene["layers"] and "Segment this case with it" not in button_labels(app)
    app = open_page("review", model=quiz_run.run, view="models", **second)
    assert not app.exception and "Wilcoxon" in texts(app) and len(app.get("plotly_chart")) == 1
    assert "too few for a test" in texts(app) or "equal in the only case" in texts(app)


@pytest.mark.slow
def test_note_is_saved_at_the_crosshair_shown_in_the_list_and_removed(root: Path, quiz_run: QuizRun) -> None:
    app = open_page("review", model=quiz_run.run, at="3,4,5")
    chosen = component_data(app, "selected")["selected"]
    app.text_area(key=f"review_note-{chosen}-text").set_value("the rim is missed")
    app = choose(app, "Mark", "fix")
    click(app, "Save note")
    assert not app.exception and "the rim is missed" in texts(app) and "3,4,5" in button_labels(app)
    (marked,) = [row for row in component_data(app, "selected")["rows"] if row["mark"]]
    assert (marked["id"], marked["mark"]) == (chosen, "fix")
    click(app, "3,4,5")
    assert component_data(app, "grid")["target"]["voxel"] == [2, 3, 4]
    assert app.text_area(key=f"review_note-{chosen}-text").value == ""
    click(app, "Save note")
    assert "a mark" in app.error[0].value, "an empty note is refused"
    app.button(key=next(b.key for b in app.button if b.key and b.key.startswith("note-remove"))).click().run()
    assert not [row for row in component_data(app, "selected")["rows"] if row["mark"]]


@pytest.mark.slow
def test_list_is_filtered_by_the_newest_mark_of_each_case(root: Path, quiz_run: QuizRun) -> None:
    def filters(app: AppTest) -> list[Any]:
        groups: list[Any] = list(app.get("button_group"))
        return [group for group in groups if group.label == "Marks in notes"]

    app = open_page("review", model=quiz_run.run)
    assert not filters(app), "no case is marked"
    first, second, third = (row["id"] for row in component_data(app, "selected")["rows"])
    for subject, mark in ((first, "accept"), (second, "discuss"), (first, "fix")):
        assert main(["review", "note", quiz_run.run, str(quiz_run.data), subject, "--mark", mark]) == 0

    def listed(**address: str) -> list[str]:
        page: dict[str, Any] = {"model": quiz_run.run, **address}
        return [row["id"] for row in component_data(open_page("review", **page), "selected")["rows"]]

    assert listed(marked="fix") == [first] and listed(marked="none") == [third]
    assert listed() == listed(marked="all") == [first, second, third]
    app = open_page("review", model=quiz_run.run, marked="accept")
    assert "No case passes this filter" in texts(app), "the mark was replaced"
    (group,) = filters(app)
    shown = [option.content for option in group.proto.options]
    assert shown == ["all (3)", "accept (0)", "fix (1)", "discuss (1)", "none (1)"]


@pytest.mark.slow
def test_kept_epochs_are_offered_and_become_layers_of_the_viewer_in_the_order_of_training(
    root: Path, quiz_run: QuizRun
) -> None:
    app = open_page("review", model=quiz_run.run)
    assert component_data(app, "grid")["epochs"] == [] and "kept epoch" not in texts(app)
    keep_epochs(root / quiz_run.run)
    app = open_page("review", model=quiz_run.run)
    chosen = component_data(app, "selected")["selected"]
    assert "Segment it with 2 epochs" in button_labels(app), "the best one has segmented it"
    assert main(["review", "epochs", quiz_run.run, chosen]) == 0
    app = open_page("review", model=quiz_run.run, case=chosen)
    shown = component_data(app, "grid")["epochs"]
    assert not app.exception and [epoch["name"] for epoch in shown][:2] == ["epoch 1", "epoch 3"]
    assert shown[0]["dice"] == 0 and shown[-1]["dice"] > 0.3 and len({epoch["url"] for epoch in shown}) == len(shown)
    assert not [label for label in button_labels(app) if label.startswith("Segment it with")]
