"""The Review page's order of cases, the scores of a case, and the voxel size of its segmentation."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from core.evaluation.metrics import SubjectScore
from core.imaging.display import Channel, Grid
from core.regions import Region, RegionSpace
from core.runs.predictions import Prediction
from ui.review import view
from ui.review.case_order import worst_first
from ui.shared.class_table import ClassRow
from ui.viewer.scenes import Scene

SCENE = Scene(Grid((4, 5, 6), (1, 1, 1), None), (Channel("T1", 0, 1, (0, 1)),), "/api/volumes/x")


def prediction(subject: str, dice: float | None) -> Prediction:
    score = None if dice is None else SubjectScore({"GM": dice, "CSF": math.nan}, {}, {}, (), {})
    return Prediction(subject, Path(subject), score, 1, 1, "", 0.0)


def test_worst_case_is_first_and_unsegmented_cases_are_last() -> None:
    dice = {"s-2": 0.9, "s-10": 0.5, "s-3": None, "s-4": math.nan, "s-5": 0.0}
    predictions = {subject: prediction(subject, value) for subject, value in dice.items()}
    subjects = ["s-1", "s-2", "s-3", "s-4", "s-5", "s-10", "s-11", "s-9"]
    assert worst_first(subjects, predictions) == ["s-5", "s-10", "s-2", "s-3", "s-4", "s-1", "s-9", "s-11"]


def test_cases_without_a_reference_begin_where_networks_disagree_most() -> None:
    predictions = {s: replace(prediction(s, None), mean_disagreement=d) for s, d in (("a", 0.01), ("b", 0.2))}
    assert worst_first(["a", "b"], predictions) == ["b", "a"]


def test_scores_without_postprocessing_and_the_disagreement_stay_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    captions: list[str] = []
    monkeypatch.setattr("ui.review.view.st.caption", captions.append)
    monkeypatch.setattr("ui.review.view.class_table", lambda *_: None)
    made = prediction("s-1", 0.9)
    settings = {"postprocessing": {"GM": {"largest": True, "minimum_ml": 0, "fill_holes": False}}}
    made = replace(made, settings=settings, unprocessed_score=prediction("s-1", 0.8).score, mean_disagreement=0.05)
    view.score_table(made, [{"name": "GM", "colour": "#000000"}])
    text = " ".join(captions).replace("\\", "")
    assert "5.0 % of the pairs of networks disagree" in text
    assert "Postprocessing: GM: largest component. Mean Dice without it 0.800." in text


def test_surface_dice_has_a_column_only_where_the_case_has_been_scored_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    tables: list[tuple[list[str], list[ClassRow]]] = []
    monkeypatch.setattr("ui.review.view.st.caption", lambda _: None)
    monkeypatch.setattr("ui.review.view.class_table", lambda columns, rows: tables.append((list(columns), list(rows))))
    old = prediction("s-1", 0.9)
    assert old.score is not None
    volumes_ml = {"GM": {"truth": 10.0, "prediction": 9.5}}
    new = replace(old, score=replace(old.score, surface_dice={"GM": {"1": 0.75}}, volume_ml=volumes_ml))
    for made in (old, new):
        view.score_table(made, [{"name": "GM", "colour": "#000000"}, {"name": "CSF", "colour": "#ffffff"}])
    assert "Surface Dice" not in tables[0][0] and len(tables[0][1][0].values) == len(tables[0][0])
    columns, (row, *_) = tables[1]
    assert row.values[columns.index("Surface Dice")] == "0.750"
    assert row.values[-1].endswith("9.5 (\N{MINUS SIGN}5\N{NO-BREAK SPACE}%)")


def test_union_of_classes_is_shown_with_its_classes_and_without_a_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[ClassRow] = []
    monkeypatch.setattr("ui.review.view.st.caption", lambda _: None)
    monkeypatch.setattr("ui.review.view.class_table", lambda _, shown: rows.extend(shown))
    regions = RegionSpace((Region("brain", ("GM", "CSF"), "GM"),), ("background", "GM", "CSF"))
    score = SubjectScore({"GM": 0.9, "CSF": 0.8, "brain": 0.0}, {}, {}, ("brain",), {})
    classes = [{"name": "GM", "colour": "#000000"}, {"name": "CSF", "colour": "#ffffff"}]
    view.score_table(replace(prediction("s-1", 0.9), score=score), classes, regions=regions)
    shown = [(row.name, row.colour, row.note) for row in rows[:3]]
    assert shown == [("GM", "#000000", ""), ("CSF", "#ffffff", ""), ("brain", "", "GM + CSF; missed")]


@pytest.mark.parametrize(("resampled_mm", "shown"), [(None, False), ([1, 1, 1], False), ([2, 1, 1], True)])
def test_voxel_size_of_a_segmentation_is_shown_if_it_is_not_the_images(
    resampled_mm: list[float] | None, shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    captions: list[str] = []
    monkeypatch.setattr("ui.review.view.st.caption", captions.append)
    made = replace(prediction("s-1", 0.9), settings={"resampled_mm": resampled_mm})
    view.resampling_note(made, SCENE)
    view.resampling_note(None, SCENE)
    assert captions == (["Segmented at voxels of 2 × 1 × 1 mm."] if shown else [])
