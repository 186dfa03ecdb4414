"""A class is read where it is defined; another place, and an entry point without one, says which to name."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from core.errors import ConfigError
from core.models import architecture, architectures, own_networks
from tests.support.own_networks import NET, forget_networks, write_network


@pytest.fixture(autouse=True)
def no_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without networks of their own."""
    forget_networks(monkeypatch, tmp_path / "config")


@pytest.mark.parametrize(
    ("module", "value", "message"),
    [
        ("__init__", "EpNet", r"defined in this very file.*imported from exporting\.nets: name exporting\.nets:Net"),
        ("__init__", "Star", r"may be imported from exporting\.more\.inner: name exporting\.more\.inner:Star"),
        ("more.__init__", "Net", r"imported from exporting\.nets: name exporting\.nets:Net"),
        ("__init__", "", r'Added = "package.module:Class", got \'exporting\''),
        ("__init__", "Net()", r'Added = "package.module:Class", got \'exporting:Net\(\)\''),
    ],
)
def test_entry_point_of_a_class_that_is_imported_names_its_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, value: str, message: str
) -> None:
    package = tmp_path / "exporting"
    (package / "more").mkdir(parents=True)
    (package / "__init__.py").write_text("from .nets import Net as EpNet\nfrom exporting.more.inner import *\n")
    (package / "more" / "__init__.py").write_text("from ..nets import Net\n")
    monkeypatch.syspath_prepend(tmp_path)
    name = f"exporting.{module}".removesuffix(".__init__")
    point = importlib.metadata.EntryPoint("Added", f"{name}:{value}".rstrip(":"), own_networks.ENTRY_POINTS)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point] if group == point.group else [])
    with pytest.raises(ConfigError, match=message):
        architecture("Added")
    assert "Added" not in architectures() and "vnet" in architectures()


def test_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    write_network(tmp_path, "\ufeff" + NET)
    assert architecture("Net").help == "One layer"
