"""What a user's network keeps in its state, and what ends its check before its time, are named in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.config import ModelConfig
from core.errors import ConfigError
from core.models.contract import check_network
from tests.support.own_networks import NET, forget_networks, write_network

METHOD = "    def forward"
BUFFER = "self.register_buffer('grid', None)"
LINE = "        self.conv ="


@pytest.fixture(autouse=True)
def no_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without networks of their own."""
    forget_networks(monkeypatch, tmp_path / "config")


def problems(folder: Path, *replaced: tuple[str, str]) -> list[str]:
    """What the check finds of a network, a line each."""
    text = NET
    for old, new in replaced:
        assert old in text
        text = text.replace(old, new, 1)
    write_network(folder, text)
    try:
        check_network(ModelConfig("Net"))
    except ConfigError as error:
        return str(error).splitlines()[1:]
    return []


@pytest.mark.parametrize("kind", ["Conv3d(classes, 1)", "BatchNorm3d()"])
def test_parameters_without_a_size_are_named_once(tmp_path: Path, kind: str) -> None:
    layer = f"        self.lazy = torch.nn.Lazy{kind}\n"
    (problem,) = problems(tmp_path, (LINE, layer + LINE), ("self.conv(image)", "self.lazy(self.conv(image))"))
    assert "found lazy ones: network.lazy.weight" in problem and "Conv3d instead of LazyConv3d" in problem


def test_state_that_is_no_tensor_is_named(tmp_path: Path) -> None:
    methods = "    def get_extra_state(self): return {'a': 1}\n    def set_extra_state(self, state): pass\n"
    (problem,) = problems(tmp_path, (METHOD, methods + METHOD))
    assert "expected tensors in its state, found network._extra_state of type dict" in problem


@pytest.mark.parametrize(
    ("method", "error"),
    [
        ("def get_extra_state(self): raise KeyError('no state')", "KeyError: 'no state'"),
        ("def train(self, mode=True): return [][0]", "IndexError: list index out of range"),
        ("def train(self, mode=True): raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_code_that_ends_a_part_of_the_check_is_named_by_its_line(tmp_path: Path, method: str, error: str) -> None:
    found = problems(tmp_path, (METHOD, f"    {method}\n{METHOD}"))
    assert len(found) == 1 and f"net.py, line 11: {error}" in found[0]


@pytest.mark.parametrize("call", ["sys.exit(0)", "raise KeyError('key')"])
def test_code_that_ends_a_pass_is_named_by_its_line(tmp_path: Path, call: str) -> None:
    (problem,) = problems(tmp_path, ("import torch", "import sys, torch"), ("return", f"{call}; return"))
    assert "in training mode: " in problem and "net.py, line 12: " in problem


@pytest.mark.parametrize(
    ("persistent", "line"),
    [
        ("", "self.grid = torch.ones(1) if self.grid is None else self.grid"),
        ("", "self.grid = torch.ones(image.shape[2:])"),
        ("", "self.late = torch.nn.Parameter(torch.ones(1))"),
        ("", "self.conv.bias = None"),
        (", persistent=False", "self.grid = torch.ones(image.shape[2:])"),
    ],
)
def test_state_that_changes_in_forward_is_named(tmp_path: Path, persistent: str, line: str) -> None:
    buffer = f"        self.register_buffer('grid', None{persistent})\n{LINE}"
    found = problems(tmp_path, (LINE, buffer), ("return", f"{line}; return"))
    name = "network." + line.removeprefix("self.").partition(" ")[0]
    named = [problem for problem in found if f"parameters or buffers changed in forward: {name};" in problem]
    assert len(named) == (0 if persistent else 1), found
    assert named or not found
