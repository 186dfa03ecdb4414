"""The question of the preview: it changes with all that decides how a subject is read."""

from __future__ import annotations

import json
from pathlib import Path

from core.config import DataConfig
from core.datasets import Dataset, open_dataset
from core.datasets.layouts.recipe import Repair
from core.datasets.saved_recipes import add_repairs
from tests.support.balls import write_balls
from ui.train import augmentation_view


def test_stamp_changes_with_files_classes_and_recipe(tmp_path: Path) -> None:
    folder = write_balls(tmp_path / "balls", 2)

    def stamp(*subjects: str, **values: object) -> str:
        return augmentation_view._stamp(opened(), subjects or ("ball_0",), DataConfig(**values))  # type: ignore[arg-type]

    def opened() -> Dataset:
        return open_dataset(folder)

    first = stamp()
    assert stamp() == first == stamp("ball_0", "ball_0")
    found = {first, stamp("ball_1"), stamp("ball_0", "ball_1"), stamp(classes=("dark",))}
    description = folder / "dataset.json"
    content = json.loads(description.read_text())
    description.write_text(json.dumps({**content, "labels": {**content["labels"], "2": "darker"}}))
    found.add(stamp())
    add_repairs(folder, [Repair("take_qform", "ball_0")])
    found.add(stamp())
    image = folder / "imagesTr" / "ball_0.nii.gz"
    image.write_bytes(image.read_bytes() + b" ")
    found.add(stamp())
    assert len(found) == 7
