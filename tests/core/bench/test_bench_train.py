"""Benchmark of training steps: the same operations, a row for each implementation, errors of other libraries."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from core.bench import peers, roofline
from core.bench.implementations import (
    CLASSES,
    IN_CHANNELS,
    Implementation,
    Selection,
    count_gflop,
    max_levels,
    plain_unet,
    random_batch,
    select_implementations,
)
from core.bench.loop import EPOCHS, LoopSetup, measure_loop
from core.bench.train import CHANNELS as DEFAULT_CHANNELS
from core.bench.train import NNUNET_OPTIM, Settings, bench_train
from core.config import OptimConfig
from core.errors import ConfigError
from core.models.network_trace import trace_network
from core.types import Size3
from tests.support.peer_packages import import_or_skip, monai_or_skip

CPU = torch.device("cpu")
SIZE = (16, 16, 16)
CHANNELS = (8, 16, 24)


def ignore_progress(done: float, total: int, text: str) -> None:
    """A progress callback that does nothing."""


def by_name(name: str, channels: tuple[int, ...] = CHANNELS) -> Implementation:
    selected = select_implementations(channels, CPU, OptimConfig(), Selection(peers=True, article=True))
    return next(i for i in selected if name in i.name)


@pytest.mark.parametrize(
    ("size", "levels"), [((64, 64, 64), 5), ((128, 128, 64), 5), ((16, 16, 8), 2), ((256, 256, 128), 6), ((9, 8, 8), 1)]
)
def test_number_of_levels_a_sub_volume_allows(size: Size3, levels: int) -> None:
    assert max_levels(size, 6) == levels
    assert max_levels(size, 2) == min(levels, 2)


def test_counted_operations_agree_with_the_traced_ones() -> None:
    """Three passes over every convolution, but no gradient of the image."""
    gflop = count_gflop(by_name("ours"), 2, SIZE)
    whole = 2 * 3 * trace_network(plain_unet(CHANNELS), IN_CHANNELS, CLASSES, SIZE).forward_gflop
    voxels = SIZE[0] * SIZE[1] * SIZE[2]
    assert gflop == pytest.approx(whole - 2 * 2 * voxels * IN_CHANNELS * CHANNELS[0] * 27 / 1e9)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [CHANNELS, DEFAULT_CHANNELS[:5]])
def test_monais_network_does_the_same_operations(channels: tuple[int, ...]) -> None:
    monai_or_skip("monai.networks.nets")
    size = SIZE if channels == CHANNELS else (128, 128, 64)
    assert count_gflop(by_name("MONAI", channels), 1, size) == count_gflop(by_name("ours", channels), 1, size)


def test_nnunets_network_does_the_same_operations() -> None:
    import_or_skip("dynamic_network_architectures", "requirements-bench.txt")
    assert count_gflop(by_name("nnU-Net"), 1, SIZE) == count_gflop(by_name("ours"), 1, SIZE)


@pytest.mark.slow
def test_step_of_each_implementation_changes_the_weights() -> None:
    image, label = random_batch(1, SIZE, CPU)
    for name in ("ours", "MONAI", "nnU-Net"):
        implementation = by_name(name)
        try:
            network = implementation.build_network()
        except peers.PeerMissingError:
            continue
        before = [p.detach().clone() for p in network.parameters()]
        implementation.make_step(network)(image, label)
        assert any(not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True)), name


@pytest.mark.long
@pytest.mark.slow
def test_table_of_training_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    has_monai = importlib.util.find_spec("monai") is not None
    monkeypatch.setattr(peers, "is_installed", lambda package: package == "monai" and has_monai)
    settings = Settings(SIZE, CHANNELS, (1, 2), steps=1, blocks=2, peers=True, loop=False, roofline=False)
    report = bench_train(settings, "cpu", ignore_progress)
    assert report.settings["channels"] == list(CHANNELS) and min(report.matmul_tflops.values()) > 0
    assert [(row.name, row.batch) for row in report.rows] == [
        (name, batch) for batch in (1, 2) for name in ("ours", "nnU-Net PlainConvUNet", "MONAI DynUNet")
    ]
    for ours, missing, monai in (report.rows[:3], report.rows[3:]):
        assert missing.ms is None and missing.note == "not installed: pip install -r requirements-bench.txt"
        assert ours.ratio == 1 and ours.ms is not None and ours.ms_low is not None and ours.ms_high is not None
        assert 0 < ours.ms_low <= ours.ms <= ours.ms_high
        assert ours.share_of_peak is not None and ours.share_of_peak > 0
        if has_monai:
            assert monai.gflop == ours.gflop and monai.ms is not None
            assert monai.ratio == pytest.approx(monai.ms / ours.ms)
    assert report.rows[3].gflop == 2 * (report.rows[0].gflop or 0)
    assert "per mille" not in report.text()


@pytest.mark.slow
def test_error_of_another_library_is_reported_in_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*args: object) -> torch.nn.Module:
        raise RuntimeError("no kernel\nfor this")

    broken = Implementation(
        "a peer", "fp32", build, lambda network: lambda image, label: None, ours=False, required=False
    )
    monkeypatch.setattr("core.bench.train.select_implementations", lambda *args: [by_name("ours"), broken])
    report = bench_train(
        Settings(SIZE, CHANNELS, (1,), steps=1, blocks=1, loop=False, roofline=False), "cpu", ignore_progress
    )
    assert report.rows[1].note == "failed: no kernel" and report.rows[1].ms is None
    assert report.rows[0].ms is not None


@pytest.mark.slow
def test_bounds_count_the_operations_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(roofline.COPY_BYTES, "cpu", 2**20)
    report = bench_train(Settings(SIZE, CHANNELS, (2, 1), steps=1, blocks=1, loop=False), "cpu", ignore_progress)
    ours, *levels, total = report.rows[:5]
    assert [row.name for row in levels] == [
        "bound at 16x16x16, 8 channels",
        "bound at 8x8x8, 16 channels",
        "bound at 4x4x4, 24 channels",
    ]
    assert sum(row.gflop or 0 for row in levels) == pytest.approx(total.gflop) == pytest.approx(ours.gflop)
    assert sum(row.ms or 0 for row in levels) == pytest.approx(total.ms)
    assert all(row.ms and row.batch == 2 for row in levels) and report.rows[5].name == "ours"
    assert total.ratio == pytest.approx((total.ms or 0) / (ours.ms or 1))


def test_bound_at_low_bandwidth_is_the_memory_traffic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "_copy_bandwidth", lambda device: 1e6)
    first, last, _ = roofline.lower_bounds(plain_unet((4, 8)), 1, SIZE, CPU, "fp32", None)
    values = (IN_CHANNELS + 4) + (4 + 4) + (8 + 4) + (8 + 4) + (4 + 4) + (4 + CLASSES)
    assert first.ms == pytest.approx(1000 * 3 * 4096 * 4 * values / 1e6)
    assert last.ms == pytest.approx(1000 * 3 * 512 * 4 * ((4 + 8) + (8 + 8)) / 1e6)


def test_bound_on_a_gpu_uses_the_matmul_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    """GPU kernels do not unfold images; only the bandwidth is measured."""
    monkeypatch.setattr(roofline, "_copy_bandwidth", lambda device: 1e18)
    *levels, total = roofline.lower_bounds(plain_unet((4, 8)), 1, SIZE, torch.device("cuda"), "bf16", 100.0)
    assert len(levels) == 2 and total.tflops == pytest.approx(100.0)
    assert total.gflop == pytest.approx(count_gflop(by_name("ours", (4, 8)), 1, SIZE))


@pytest.mark.slow
def test_every_acceleration_has_a_row() -> None:
    settings = Settings(
        SIZE, CHANNELS, (1,), steps=1, blocks=1, loop=False, roofline=False, accelerations=("none", "graph")
    )
    ours, plain, graph = bench_train(settings, "cpu", ignore_progress).rows
    assert (plain.name, graph.name) == ("ours, none", "ours, graph") and ours.ms and plain.ms and graph.ms is None
    assert graph.note.startswith("failed: acceleration: expected none, compile or auto on a CPU, got graph")


@pytest.mark.slow
def test_loop_times_the_trainer_and_its_bare_step() -> None:
    epochs: list[int] = []
    setup = LoopSetup(plain_unet((8, 16)), NNUNET_OPTIM, "fp32", batch=2, size=SIZE, device=CPU, epoch_s=0.02)
    times = measure_loop(setup, lambda done, total: epochs.append(done))
    assert epochs == list(range(1, EPOCHS + 1))
    assert len(times.loop_s) == len(times.bare_s) == EPOCHS - 1
    assert min(*times.loop_s, *times.bare_s) > 0 and times.ratio > 0 and times.checkpoints >= 1


def test_invalid_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="batch: expected one or more numbers of at least 1"):
        Settings(batches=(0,))
    with pytest.raises(ConfigError, match="steps, blocks: expected at least 1"):
        Settings(blocks=0)
    with pytest.raises(ConfigError, match="loop_seconds: expected more than 0"):
        Settings(loop_s=0)
    with pytest.raises(ConfigError, match=r"two levels.*9x9x9"):
        bench_train(Settings((9, 9, 9), CHANNELS), "cpu", ignore_progress)


def test_default_sub_volumes_allow_five_levels() -> None:
    assert Settings().used_channels(CPU) == DEFAULT_CHANNELS[:5] == Settings().used_channels(torch.device("cuda"))
