"""Changed settings of the training form in the URL."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from core.config import TrainConfig, field_specs
from ui.train.url_changes import decode, encode

CHANGES = {
    "epochs": 12,
    "minutes": 0.0,
    "flip": 0.25,
    "channels": (8, 16),
    "deterministic": True,
    "norm": "group",
    "val_subjects": ("a~b", "50%7E", "ä 1"),
    "fold": -1,
}


def test_changes_come_back_from_the_url() -> None:
    assert decode(encode(CHANGES)) == (CHANGES, [])
    every = TrainConfig().values()
    assert decode(encode({spec.name: every[spec.name] for spec in field_specs()})) == (every, [])


def test_a_few_changes_make_a_short_url() -> None:
    assert encode({"flip": 0.0, "epochs": 12}) == quote(encode({"epochs": 12, "flip": 0.0})) == "epochs~12~flip~0.0"


@pytest.mark.parametrize(
    ("text", "values", "unknown"),
    [
        ("epochs~many~flip~0.5", {"flip": 0.5}, ["epochs"]),
        ("colour~red", {}, ["colour"]),
        ("epochs", {}, ["epochs"]),
        ("flip~7~epochs~3", {"epochs": 3}, ["flip"]),
    ],
)
def test_what_cannot_be_used_is_named(text: str, values: dict[str, object], unknown: list[str]) -> None:
    assert decode(text) == (values, unknown)
