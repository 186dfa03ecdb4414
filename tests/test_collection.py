"""Where only long tests run, files without one are not imported."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import pytest_collection_modifyitems, pytest_ignore_collect

LONG = "import pytest\n\n@pytest.mark.long\ndef test_one(): ...\n"


@pytest.mark.parametrize(
    ("name", "text", "markers", "ignored"),
    [
        ("test_one.py", "def test_one(): ...\n", "long", True),
        ("test_one.py", LONG, "long", None),
        ("test_one.py", "def test_one(): ...\n", "not long", None),
        ("conftest.py", "", "long", None),
    ],
)
def test_only_files_without_a_long_test_are_left_out(
    tmp_path: Path, name: str, text: str, markers: str, ignored: bool | None
) -> None:
    (tmp_path / name).write_text(text)
    config: Any = SimpleNamespace(option=SimpleNamespace(markexpr=markers))
    assert pytest_ignore_collect(tmp_path / name, config) is ignored


def test_long_test_of_a_file_that_would_be_left_out_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "test_one.py"
    path.write_text("def test_one(): ...\n")
    item: Any = SimpleNamespace(
        path=path, nodeid="test_one.py::test_one", get_closest_marker=lambda name: name == "long" or None
    )
    with pytest.raises(pytest.UsageError, match=r"test_one.py::test_one is marked long: expected mark.long in its own"):
        next(pytest_collection_modifyitems([item]))
