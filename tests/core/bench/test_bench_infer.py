"""Benchmark of inference: rows of each method, agreement with MONAI, errors of other libraries."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from core.bench import infer, peers
from core.bench.implementations import plain_unet
from core.bench.infer import Settings, bench_infer
from core.bench.report import Row
from core.config import ModelConfig
from core.errors import CheckpointError, ConfigError
from core.models.build import build_model
from tests.support.balls import untrained_run
from tests.support.own_networks import FAILS, forget_networks, write_network
from tests.support.peer_packages import monai_or_skip


def ignore_progress(done: float, total: int, text: str) -> None:
    """A progress callback that does nothing."""


def settings(**values: object) -> Settings:
    return Settings(**{"size": (20, 16, 12), "channels": (4, 8), "tile": (8, 8, 8), "blocks": 2, **values})  # type: ignore[arg-type]


@pytest.mark.slow
def test_segmentarium_is_measured_in_tiles_and_in_one_pass() -> None:
    report = bench_infer(settings(), "cpu", ignore_progress)
    tiles, whole = report.rows
    assert (tiles.name, whole.name) == ("ours, tiles", "ours, whole")
    assert (tiles.tiles, whole.tiles) == (4 * 3 * 2, 1)
    assert tiles.ratio == 1 and whole.ratio == pytest.approx((whole.ms or 0) / (tiles.ms or 1))
    assert tiles.gflop is not None and whole.gflop is not None and tiles.gflop > whole.gflop > 0
    assert tiles.dice is None and tiles.agreement is None


@pytest.mark.long
@pytest.mark.slow
def test_monai_on_the_same_tiles_gives_the_same_labels() -> None:
    monai_or_skip("monai.inferers")
    report = bench_infer(settings(peers=True), "cpu", ignore_progress)
    ours, _, *monai = report.rows
    assert [row.precision for row in monai] == list(dict.fromkeys(("fp32", ours.precision)))
    assert all(row.tiles == ours.tiles and row.gflop == ours.gflop for row in monai)
    assert monai[-1].agreement == 1
    assert ours.agreement is not None and ours.agreement > 0.99


@pytest.mark.slow
def test_error_of_another_library_is_reported_in_its_row() -> None:
    def predict() -> torch.Tensor:
        raise AttributeError("no inferer\nof that name")

    network = build_model(plain_unet((4, 8)), 2, 4).eval()
    case = infer.Case("noise", network, torch.randn(2, 16, 16, 16), None, 4, (8, 8, 8))
    methods = [*infer.methods_for(case, "fp32", False), infer.Method(Row("a peer", "fp32"), predict)]
    ours, _, peer = infer.measure_methods(case, methods, 1, ignore_progress)
    assert ours.ms is not None and peer.ms is None and peer.note == "failed: no inferer"


@pytest.mark.long
@pytest.mark.slow
def test_monai_is_also_measured_on_the_foreground() -> None:
    monai_or_skip("monai.inferers")
    torch.manual_seed(0)
    network = build_model(plain_unet((4, 8)), 2, 4).eval()
    image = torch.zeros(2, 32, 24, 24)
    image[:, 10:22, 8:16, 8:18] = torch.randn(2, 12, 8, 10)
    case = infer.Case("a head", network, image, torch.zeros(32, 24, 24, dtype=torch.uint8), 4, (8, 8, 8))
    rows = infer.measure_methods(case, infer.methods_for(case, "fp32", True), 1, ignore_progress)
    assert [row.name for row in rows] == [
        "ours, tiles",
        "ours, whole",
        "MONAI sliding window, whole volume",
        "MONAI sliding window, head only",
    ]
    ours, _, whole, head = rows
    assert ours.tiles == head.tiles and (whole.tiles or 0) > (head.tiles or 0)
    assert ours.agreement is not None and ours.agreement > 0.999 and ours.dice == 0


@pytest.mark.long
@pytest.mark.slow
def test_missing_monai_is_reported_in_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "is_installed", lambda package: False)
    report = bench_infer(settings(peers=True), "cpu", ignore_progress)
    assert {row.note for row in report.rows[2:]} == {"not installed: pip install -r requirements-bench.txt"}
    assert all(row.ms is None for row in report.rows[2:]) and report.rows[0].ratio == 1


def test_model_with_other_modalities_is_refused_before_the_subject_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.runs import find_checkpoint

    name = untrained_run(tmp_path, "other", ("M0",))
    made: list[object] = []
    monkeypatch.setattr("core.datasets.synthetic.demo.ensure_subject", lambda *args, **options: made.append(args))
    with pytest.raises(CheckpointError, match=r"T1, T2.*CSF, GM, WM.*found.*M0"):
        bench_infer(Settings(model=find_checkpoint(tmp_path, name)), "cpu", ignore_progress)
    assert not made


def test_invalid_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="blocks: expected at least 1"):
        settings(blocks=0)
    with pytest.raises(ConfigError, match="tile: expected multiples of 4, which 3 levels can halve, got 10x8x8"):
        settings(channels=(4, 8, 16), tile=(10, 8, 8))
    with pytest.raises(ConfigError, match="size, tile: expected at least 1 voxel"):
        settings(size=(0, 8, 8))


def test_error_in_the_code_of_an_own_network_names_its_file_and_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_networks(monkeypatch, tmp_path)
    write_network(tmp_path, FAILS)
    network = build_model(ModelConfig(model="Net"), 2, 4).eval()
    case = infer.Case("own", network, torch.zeros(2, 8, 8, 8), None, 4, (8, 8, 8))
    monkeypatch.setattr(infer, "_untrained_case", lambda settings, device: case)
    with pytest.raises(ConfigError, match=r"net\.py, line 12: AttributeError: .*no_such_attribute"):
        bench_infer(settings(), "cpu", ignore_progress)
