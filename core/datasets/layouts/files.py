"""Helpers of layouts: names of image files, and JSON files that describe a data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from core.errors import DatasetError
from core.imaging.headers import SUFFIXES

MAX_JSON_BYTES = 64 * 2**20


def is_image_name(name: str) -> bool:
    """Whether a file name ends like an image and is not hidden."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def image_stem(name: str) -> str:
    """File name without the suffix of an image, ``.nii.gz`` included."""
    lower = name.lower()
    if not lower.endswith(SUFFIXES):
        return name
    return name[: -max(len(s) for s in SUFFIXES if lower.endswith(s))]


def read_json_object(file: Path, expects: str) -> dict[str, Any]:
    """Read a JSON file whose root is an object.

    Parameters
    ----------
    file : Path. JSON file, UTF-8, with or without a byte order mark.
    expects : str. Entries of the object, for the error message.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    DatasetError
        If it cannot be read, is too large, is not valid JSON, repeats a key, or is not an object.
    """
    try:
        size = file.stat().st_size
        if size > MAX_JSON_BYTES:
            raise DatasetError(f"{file}: expected at most {MAX_JSON_BYTES} bytes, got {size}")
        content = json.loads(file.read_text("utf-8-sig"), object_pairs_hook=_refuse_repeated_keys)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DatasetError(
            f"{file}: cannot be read: {error.strerror or error}; check that it is a file you may read"
        ) from None
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{file}: expected valid JSON, got an error: {error}") from None
    if not isinstance(content, dict):
        raise DatasetError(f"{file}: expected an object with {expects}; got {describe_json(content)}")
    return content


def describe_json(value: Any) -> str:
    """Type and beginning of a JSON value, for error messages."""
    return "nothing" if value is None else f"{type(value).__name__} {json.dumps(value)[:80]}"


def _refuse_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Object from its pairs; JSON readers would silently keep the last of repeated keys."""
    content = dict(pairs)
    if len(content) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} appears twice")
    return content
