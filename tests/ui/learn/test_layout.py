"""Texts of the Learn page's chapters."""

from __future__ import annotations

import re

from core.presets import preset
from ui.learn.layout import TEXTS, chapter_texts


def test_every_chapter_has_title_and_text_and_no_text_is_lost() -> None:
    chapters = chapter_texts()
    assert list(chapters) == ["contrast", "convolution", "sub-volumes", "dice", "imbalance", "network"]
    assert all(len(text) > 200 and re.match("[A-Z]", title) for title, text in chapters.values())
    assert sum(len(text) for _, text in chapters.values()) > 0.9 * len(TEXTS.read_text("utf-8"))


def test_losses_of_presets_are_those_the_text_names() -> None:
    assert preset("article").loss.loss == "dice"
    assert {preset(name).loss.loss for name in ("quick", "fast")} == {"dice_ce"}
