"""Recipes that people saved for data sets: a JSON file for each, beside the descriptions of folders.

The folder of a data set itself is never written to.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from core.datasets.layouts.base import Dataset
from core.datasets.layouts.recipe import Recipe, Repair
from core.datasets.saved_descriptions import description_file, remove_settings, write_settings
from core.errors import DatasetError, check_version
from core.files import FileStamp, file_stamp

FORMAT_VERSION = 1
BY_RECIPE = "by its recipe: "  # begins a note on what is mended


def recipe_file(folder: Path) -> Path:
    """The file of the recipe of a data set, which need not exist."""
    return description_file(folder).with_suffix(".recipe.json")


def saved_recipe(folder: Path) -> Recipe:
    """The recipe that was saved for a data set; empty if there is none.

    Raises
    ------
    DatasetError
        If the file cannot be read, is damaged, or of a newer version.
    """
    file = recipe_file(folder)
    try:
        content = json.loads(file.read_text("utf-8"))
        version, recipe = int(content["version"]), content["recipe"]
    except FileNotFoundError:
        return Recipe()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{file}: expected the recipe of a data set, got a damaged one ({error}); remove it"
        ) from None
    check_version(version, FORMAT_VERSION, DatasetError, f"{file}:")
    return Recipe.from_json(str(file), recipe)


def save_recipe(folder: Path, recipe: Recipe) -> Path:
    """Save the recipe of a data set in place of an earlier one; an empty one removes the file.

    Raises
    ------
    DatasetError
        If it cannot be written or removed.
    """
    file = recipe_file(folder)
    if not recipe:
        remove_settings(file)
        return file
    content = {"version": FORMAT_VERSION, "folder": str(folder), "recipe": recipe.to_json()}
    write_settings(file, json.dumps(content, indent=1, ensure_ascii=False))
    return file


def add_repairs(folder: Path, repairs: Iterable[Repair]) -> Recipe:
    """Add repairs to the saved recipe of a data set.

    Raises
    ------
    DatasetError
        As :func:`saved_recipe` and :func:`save_recipe`.
    """
    recipe = saved_recipe(folder)
    for repair in repairs:
        recipe = recipe.with_repair(repair)
    save_recipe(folder, recipe)
    return recipe


def apply_recipe(dataset: Dataset, recipe: Recipe) -> Dataset:
    """A data set that is read with a recipe; entries on subjects that it lacks have no effect.

    Raises
    ------
    DatasetError
        If a class is renamed as another one is called.
    """
    if not recipe:
        return dataset
    left_out = set(recipe.left_out)
    classes = tuple(replace(c, name=recipe.renamed.get(c.raw, c.name)) for c in dataset.labels.classes)
    try:
        labels = replace(dataset.labels, classes=classes)
    except DatasetError as error:
        raise DatasetError(f"{recipe_file(dataset.path)}: {error}; correct the names, or remove the file") from None
    renamed = {c.name: recipe.renamed[c.raw] for c in dataset.labels.classes if c.raw in recipe.renamed}
    return replace(
        dataset,
        regions={n: tuple(renamed.get(c, c) for c in parts) for n, parts in dataset.regions.items()},
        region_order={n: renamed.get(c, c) for n, c in dataset.region_order.items()},
        subjects=tuple(s for s in dataset.subjects if s.id not in left_out),
        labels=labels,
        nan_is_zero=dataset.nan_is_zero or recipe.nan_is_zero,
        notes=(*dataset.notes, *(f"{BY_RECIPE}{line}" for line in recipe.lines())),
        recipe=recipe,
    )


def settings_stamp(folder: Path) -> tuple[FileStamp, FileStamp]:
    """Stamps of what people set for a folder, its description and its recipe, to detect a change."""
    return file_stamp(description_file(folder)), file_stamp(recipe_file(folder))
