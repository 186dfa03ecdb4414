"""Training steps side by side: the same operations, a row for each, and none for what is missing."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from core.bench import peers, roofline
from core.bench.contenders import (
    CLASSES,
    IN_CHANNELS,
    Contender,
    contenders,
    gflop_of,
    levels_for,
    plain_unet,
    random_batch,
)
from core.bench.loop import EPOCHS, measure_loop
from core.bench.train import ALIKE, WIDTHS, Settings, bench_train
from core.config import OptimConfig
from core.errors import ConfigError
from core.models.cost import network_cost
from core.types import Size3
from tests.support.monai_peer import monai_or_skip

CPU = torch.device("cpu")
SIZE = (16, 16, 16)
CHANNELS = (8, 16, 24)


def silent(done: float, total: int, words: str) -> None:
    """Nobody watches."""


def by_name(name: str, channels: tuple[int, ...] = CHANNELS) -> Contender:
    found = contenders(channels, CPU, OptimConfig(), peers=True, article=True, alike=False)
    return next(c for c in found if name in c.name)


@pytest.mark.parametrize(
    ("size", "levels"), [((64, 64, 64), 5), ((128, 128, 64), 5), ((16, 16, 8), 2), ((256, 256, 128), 6), ((9, 8, 8), 1)]
)
def test_levels_that_a_sub_volume_has_room_for(size: Size3, levels: int) -> None:
    assert levels_for(size, 6) == levels
    assert levels_for(size, 2) == min(levels, 2)


def test_operations_of_ours_are_what_its_cost_says() -> None:
    """Three passes over every convolution, but no gradient of the image."""
    found = gflop_of(by_name("ours"), 2, SIZE)
    whole = 2 * network_cost(plain_unet(CHANNELS), IN_CHANNELS, CLASSES, SIZE).training_gflop
    voxels = SIZE[0] * SIZE[1] * SIZE[2]
    assert found == pytest.approx(whole - 2 * 2 * voxels * IN_CHANNELS * CHANNELS[0] * 27 / 1e9)


@pytest.mark.parametrize("channels", [CHANNELS, WIDTHS[:5]])
def test_monais_network_does_the_same_operations(channels: tuple[int, ...]) -> None:
    monai_or_skip("monai.networks.nets")
    size = SIZE if channels == CHANNELS else (128, 128, 64)
    assert gflop_of(by_name("MONAI", channels), 1, size) == gflop_of(by_name("ours", channels), 1, size)


def test_nnunets_network_does_the_same_operations() -> None:
    pytest.importorskip("dynamic_network_architectures", reason="needs requirements-bench.txt")
    assert gflop_of(by_name("nnU-Net"), 1, SIZE) == gflop_of(by_name("ours"), 1, SIZE)


def test_a_step_of_each_moves_the_weights() -> None:
    image, label = random_batch(1, SIZE, CPU)
    for name in ("ours", "MONAI", "nnU-Net"):
        contender = by_name(name)
        try:
            network = contender.build()
        except peers.PeerMissingError:
            continue
        before = [p.detach().clone() for p in network.parameters()]
        contender.step(network)(image, label)
        assert any(not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True)), name


def test_table_of_training_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"monai": importlib.util.find_spec("monai") is not None}
    monkeypatch.setattr(peers, "there", lambda package: there.get(package, False))
    settings = Settings(SIZE, CHANNELS, (1, 2), steps=1, blocks=2, peers=True, loop=False, roofline=False)
    report = bench_train(settings, "cpu", silent)
    assert report.settings["channels"] == list(CHANNELS) and min(report.matmul_tflops.values()) > 0
    assert [(row.name, row.batch) for row in report.rows] == [
        (name, batch) for batch in (1, 2) for name in ("ours", "nnU-Net PlainConvUNet", "MONAI DynUNet")
    ]
    for ours, missing, monai in (report.rows[:3], report.rows[3:]):
        assert missing.ms is None and missing.note == "not installed: pip install -r requirements-bench.txt"
        assert ours.ratio == 1 and ours.ms is not None and ours.ms_low is not None and ours.ms_high is not None
        assert 0 < ours.ms_low <= ours.ms <= ours.ms_high
        assert ours.share_of_peak is not None and ours.share_of_peak > 0
        if there["monai"]:
            assert monai.gflop == ours.gflop and monai.ms is not None
            assert monai.ratio == pytest.approx(monai.ms / ours.ms)
    assert report.rows[3].gflop == 2 * (report.rows[0].gflop or 0)
    assert "per mille" not in report.text()


def test_what_fails_in_a_peer_is_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*args: object) -> torch.nn.Module:
        raise RuntimeError("no kernel\nfor this")

    broken = Contender("a peer", "fp32", build, lambda network: lambda image, label: None, ours=False, must_run=False)
    monkeypatch.setattr("core.bench.train.contenders", lambda *args, **options: [by_name("ours"), broken])
    report = bench_train(Settings(SIZE, CHANNELS, (1,), steps=1, blocks=1, loop=False, roofline=False), "cpu", silent)
    assert report.rows[1].note == "failed: no kernel" and report.rows[1].ms is None
    assert report.rows[0].ms is not None


def test_the_bound_counts_what_the_network_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(roofline.COPIED_BYTES, "cpu", 2**20)
    report = bench_train(Settings(SIZE, CHANNELS, (2, 1), steps=1, blocks=1, loop=False), "cpu", silent)
    ours, *levels, everything = report.rows[:5]
    assert [row.name for row in levels] == [
        "bound at 16x16x16, 8 channels", "bound at 8x8x8, 16 channels", "bound at 4x4x4, 24 channels",
    ]  # fmt: skip
    assert sum(row.gflop or 0 for row in levels) == pytest.approx(everything.gflop) == pytest.approx(ours.gflop)
    assert sum(row.ms or 0 for row in levels) == pytest.approx(everything.ms)
    assert all(row.ms and row.batch == 2 for row in levels) and report.rows[5].name == "ours"
    assert everything.ratio == pytest.approx((everything.ms or 0) / (ours.ms or 1))


def test_a_bound_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where copying is slow, a level takes as long as it takes to move its voxels."""
    monkeypatch.setattr(roofline, "_copied_bytes_per_s", lambda device: 1e6)
    first, last, _ = roofline.bounds(plain_unet((4, 8)), 1, SIZE, CPU, "fp32", None)
    values = (IN_CHANNELS + 4) + (4 + 4) + (8 + 4) + (8 + 4) + (4 + 4) + (4 + CLASSES)
    assert first.ms == pytest.approx(1000 * 3 * 4096 * 4 * values / 1e6)
    assert last.ms == pytest.approx(1000 * 3 * 512 * 4 * ((4 + 8) + (8 + 8)) / 1e6)


def test_on_a_gpu_products_are_bound_by_its_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its kernels do not unfold images; nothing is measured but copying."""
    monkeypatch.setattr(roofline, "_copied_bytes_per_s", lambda device: 1e18)
    *levels, everything = roofline.bounds(plain_unet((4, 8)), 1, SIZE, torch.device("cuda"), "bf16", 100.0)
    assert len(levels) == 2 and everything.tflops == pytest.approx(100.0)
    assert everything.gflop == pytest.approx(gflop_of(by_name("ours", (4, 8)), 1, SIZE))


def test_ours_once_more_in_other_ways() -> None:
    settings = Settings(
        SIZE, CHANNELS, (1,), steps=1, blocks=1, loop=False, roofline=False, accelerations=("none", "graph")
    )
    ours, plain, graph = bench_train(settings, "cpu", silent).rows
    assert (plain.name, graph.name) == ("ours, none", "ours, graph") and ours.ms and plain.ms and graph.ms is None
    assert graph.note.startswith("failed: acceleration: expected none, compile or auto on a CPU, got graph")


def test_the_loop_is_the_real_trainer_beside_its_bare_step() -> None:
    epochs: list[int] = []
    times = measure_loop(
        plain_unet((8, 16)), ALIKE, "fp32", batch=2, size=SIZE, device=CPU, block_s=0.02,
        show=lambda done, total: epochs.append(done),
    )  # fmt: skip
    assert epochs == list(range(1, EPOCHS + 1))
    assert len(times.loop_s) == len(times.bare_s) == EPOCHS - 1
    assert min(*times.loop_s, *times.bare_s) > 0 and times.ratio > 0 and times.saved >= 1


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="batch: expected one or more numbers of at least 1"):
        Settings(batches=(0,))
    with pytest.raises(ConfigError, match="steps, blocks: expected at least 1"):
        Settings(blocks=0)
    with pytest.raises(ConfigError, match="loop_seconds: expected more than 0"):
        Settings(loop_s=0)
    with pytest.raises(ConfigError, match="room for two levels or more, got 9x9x9 voxels"):
        bench_train(Settings((9, 9, 9), CHANNELS), "cpu", silent)


def test_default_sub_volumes_have_room_for_five_levels() -> None:
    assert Settings().used_channels(CPU) == WIDTHS[:5] == Settings().used_channels(torch.device("cuda"))
