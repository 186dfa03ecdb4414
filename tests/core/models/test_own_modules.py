"""Modules beside a user's network are the ones that are recorded, whatever has the same name elsewhere."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from core.config import ModelConfig
from core.errors import ConfigError
from core.models import architecture, own_modules
from core.models.build import build_model
from core.models.own_source import code_files
from tests.support.own_networks import NET, forget_networks, write_network


@pytest.fixture(autouse=True)
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A user without networks of their own; a process whose modules and search path are as before afterwards."""
    forget_networks(monkeypatch, tmp_path / "config")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(own_modules, "_folders", {})
    monkeypatch.setattr(own_modules, "_added", set())
    before = dict(sys.modules)
    yield
    for name in sys.modules.keys() - before.keys():
        if own_modules._place(sys.modules[name]).startswith(str(tmp_path)):
            del sys.modules[name]
    sys.modules.update(before)


def network_with(folder: Path, module: str, *, late: bool = False) -> None:
    """The network ``Net``, which adds 7 to its logits: the value of a module beside its file."""
    folder.mkdir(exist_ok=True)
    name = module.removesuffix(".py").partition("/")[0]
    path = folder / module
    path.parent.mkdir(exist_ok=True)
    path.write_text("VALUE = 7\n")
    imported = f"import {name}" if module in (f"{name}.py", f"{name}/__init__.py") else f"import {name}.inner as {name}"
    text = NET.replace("conv(image)", f"conv(image) * 0 + {name}.VALUE")
    write_network(folder, text.replace("return", f"{imported}; return") if late else f"{imported}\n{text}")


def value() -> float:
    """What the network adds."""
    with torch.no_grad():
        return float(build_model(ModelConfig("Net"), 1, 2)(torch.zeros(1, 1, 2, 2, 2)).mean())


def recorded() -> set[str]:
    return {path.name for path in code_files(architecture("Net"))}


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch, file: str, text: str = "VALUE = 3\n") -> None:
    """A module of another folder of the search path."""
    path = folder / "installed" / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    monkeypatch.syspath_prepend(folder / "installed")


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize("module", ["named_twice.py", "named_twice/__init__.py"])
def test_module_with_the_name_of_an_installed_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, loaded: bool, late: bool
) -> None:
    installed(tmp_path, monkeypatch, "named_twice/__init__.py")
    if loaded:
        importlib.import_module("named_twice")
    network_with(tmp_path / "own", module, late=late)
    beside = tmp_path / "own" / module.removesuffix("/__init__.py")
    with pytest.raises(ConfigError) as raised:
        value()
    assert f"{beside}, got that of {tmp_path / 'installed' / 'named_twice'}" in str(raised.value)


@pytest.mark.parametrize("module", ["random.py", "types.py", "time.py", "queue/__init__.py", "torch.py", "numpy.py"])
def test_module_with_the_name_of_one_of_the_program_or_of_python_is_refused(tmp_path: Path, module: str) -> None:
    network_with(tmp_path, module)
    with pytest.raises(ConfigError, match=f"{module.partition('/')[0]}.*; rename it"):
        value()


@pytest.mark.parametrize("module", ["random.py", "queue.py", "colorsys.py", "fractions/__init__.py"])
def test_modules_that_the_network_does_not_import_replace_none(tmp_path: Path, module: str) -> None:
    (tmp_path / module).parent.mkdir(exist_ok=True)
    (tmp_path / module).write_text("raise SystemExit('imported')\n")
    name = module.removesuffix(".py").partition("/")[0]
    sys.modules.pop(name, None)
    write_network(tmp_path, NET.replace("import torch", "import statistics, torch"))
    assert isinstance(value(), float) and importlib.import_module(name) is not None and recorded() == {"net.py"}


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("module", ["app.py", "benchmarks/__init__.py", "docs/inner.py"])
def test_modules_of_the_programs_folder_do_not_come_first(tmp_path: Path, module: str, late: bool) -> None:
    name = module.removesuffix(".py").partition("/")[0]
    for loaded in [other for other in sys.modules if other.partition(".")[0] == name]:
        del sys.modules[loaded]
    network_with(tmp_path, module, late=late)
    assert importlib.util.find_spec(name) is not None, "the program's own"
    assert value() == 7


def test_module_of_the_working_directory_does_not_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "helper_of_directory.py").write_text("VALUE = 3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    network_with(tmp_path / "own", "helper_of_directory.py", late=True)
    assert value() == 7


def test_folder_without_init_gives_way_to_an_installed_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Python does for a script; what is in such a folder is not recorded."""
    installed(tmp_path, monkeypatch, "way_given.py")
    (tmp_path / "own" / "way_given").mkdir(parents=True)
    (tmp_path / "own" / "way_given" / "example.py").write_text("")
    text = NET.replace("conv(image)", "conv(image) * 0 + way_given.VALUE")
    write_network(tmp_path / "own", f"import way_given\n{text}")
    assert value() == 3 and recorded() == {"net.py"}


def test_folder_without_init_is_not_joined_with_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(tmp_path, monkeypatch, "joined_parts/inner.py")
    network_with(tmp_path / "own", "joined_parts/inner.py")
    assert value() == 7 and recorded() == {"net.py", "inner.py"}


def test_package_comes_before_a_file_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "both_kinds.py").write_text("VALUE = 3\n")
    network_with(tmp_path, "both_kinds/__init__.py")
    assert value() == 7 and recorded() == {"net.py", "__init__.py"}


def test_package_of_the_program_is_never_replaced_nor_recorded(tmp_path: Path) -> None:
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "__init__.py").write_text("raise SystemExit('imported')\n")
    write_network(tmp_path, f"from core.models.blocks import NetworkOutput\n{NET}")
    assert isinstance(value(), float) and recorded() == {"net.py"}


def test_module_that_the_code_loads_from_elsewhere_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(tmp_path, monkeypatch, "moved_helper.py")
    importlib.import_module("moved_helper")
    sys.path.remove(str(tmp_path / "installed"))
    network_with(tmp_path / "own", "moved_helper.py")
    with pytest.raises(ConfigError, match=r"own.moved_helper\.py, got that of .*installed.moved_helper\.py"):
        value()
