"""Descriptions that people saved for folders of theirs: a TOML file for each, beside the program's other settings.

The folder of a data set itself is never written to.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.datasets.layouts.set_description import SetDescription, parse_description, read_description, to_toml
from core.errors import DatasetError
from core.files import atomic_write
from core.paths import settings_root

SAVED = "saved"  # names the layout of a folder with a saved description


def description_file(folder: Path) -> Path:
    """The file of the description of a folder, which need not exist; the same for all links to the folder."""
    place = os.path.realpath(folder)
    name = re.sub(r"[^\w.-]+", "_", os.path.basename(place))[:60] or "folder"
    return settings_root() / "datasets" / f"{name}-{hashlib.sha256(os.fsencode(place)).hexdigest()[:12]}.toml"


def saved_description(folder: Path) -> SetDescription | None:
    """The description that was saved for a folder; ``None`` if there is none.

    Raises
    ------
    DatasetError
        If the file cannot be read, or is not a valid description.
    """
    file = description_file(folder)
    return read_description(file) if file.is_file() else None


def save_description(folder: Path, content: Mapping[str, Any]) -> Path:
    """Save the description of a folder, in place of an earlier one.

    Raises
    ------
    DatasetError
        If it is not a valid description, or cannot be written.
    """
    parse_description("description", content)
    file = description_file(folder)
    write_settings(file, f"# How the files of {os.path.realpath(folder)} are read\n{to_toml(content)}")
    return file


def forget_description(folder: Path) -> bool:
    """Remove the saved description of a folder; whether there was one.

    Raises
    ------
    DatasetError
        If it cannot be removed.
    """
    return remove_settings(description_file(folder))


def write_settings(file: Path, text: str) -> None:
    """Write a file of what people set for a folder, in place of an earlier one.

    Raises
    ------
    DatasetError
        If it cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(file, text, durable=True)
    except OSError as error:
        raise DatasetError(
            f"{file}: cannot be written: {error.strerror or error}; set SEGMENTARIUM_SETTINGS to a folder that can"
        ) from error


def remove_settings(file: Path) -> bool:
    """Remove such a file; whether there was one.

    Raises
    ------
    DatasetError
        If it cannot be removed.
    """
    try:
        file.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise DatasetError(f"{file}: cannot be removed: {error.strerror or error}; check permissions") from error
    return True
