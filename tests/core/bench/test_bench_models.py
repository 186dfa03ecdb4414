"""Benchmark of the networks: what is traced beside what is measured, and networks that cannot be measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.bench.models import Settings, bench_models
from core.cli import main
from core.config import ModelConfig
from core.errors import ConfigError
from core.models.build import build_model
from tests.support.own_networks import FAILS, NET, forget_networks, write_network


def ignore_progress(done: float, total: int, text: str) -> None:
    """A progress callback that does nothing."""


@pytest.mark.long
def test_each_network_has_a_row_with_its_parameters() -> None:
    settings = Settings(networks=("skipdensenet3d", "med3d"), sub_volume=(16, 16, 16), blocks=1)
    result = bench_models(settings, "cpu", ignore_progress)
    assert [row.name for row in result.rows] == ["skipdensenet3d", "med3d"]
    for row in result.rows:
        network = build_model(ModelConfig(row.name), 2, 4)
        assert row.parameters == sum(p.numel() for p in network.parameters()) and row.ms and row.gflop
        assert row.estimated_memory_mb and not row.note
        assert f"{row.parameters:,}" in result.text()


def test_network_whose_package_is_missing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.models.importlib.util.find_spec", lambda name: None)
    (row,) = bench_models(Settings(networks=("segresnet",), blocks=1), "cpu", ignore_progress).rows
    assert row.ms is None and "requirements-networks.txt" in row.note


def test_unknown_network_is_refused() -> None:
    with pytest.raises(ConfigError, match="unet4d"):
        Settings(networks=("unet4d",))


@pytest.mark.slow
def test_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "models", "--networks", "med3d", "--sub-volume", "16x16x16", "--blocks", "1", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["name"] == "med3d" and row["parameters"] > 10**7


@pytest.mark.parametrize("error", ["KeyError('key')", "SystemExit(0)"])
def test_own_network_that_raises_has_a_note_and_the_others_their_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    forget_networks(monkeypatch, tmp_path / "config")
    for name, text in (("Fails", FAILS.replace("return", f"raise {error}; return")), ("Works", NET)):
        (tmp_path / name).mkdir()
        write_network(tmp_path / name, text.replace("class Net", f"class {name}"), name)
    settings = Settings(networks=("Fails", "Works"), sub_volume=(8, 8, 8), blocks=1)
    fails, works = bench_models(settings, "cpu", ignore_progress).rows
    assert fails.ms is None and f"net.py, line 12: {error.partition('(')[0]}" in fails.note
    assert fails.note.startswith("failed: ") and works.ms and not works.note
