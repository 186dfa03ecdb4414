"""Validation scores: pooled counts and losses by hand, whole volumes against the metric, the picture by voxel."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from core.colours import IGNORE_COLOUR, rgb
from core.evaluation.metrics import ScoredNames, dice_per_class
from core.inference.outputs import NetworkOutputs
from core.inference.overflow import NonFiniteLogitsError
from core.inference.sliding_window import InferenceOptions
from core.labels import IGNORE_INDEX
from core.losses.build import LossFunction
from core.models.blocks import NetworkOutput
from core.regions import region_space
from core.sampling.patches import PatchLocation, ResidentSubjects
from core.training.validation_scores import (
    SubVolumeScore,
    ValidationSet,
    WholeVolumeScore,
    render_slice,
    score_sub_volumes,
    score_whole_volumes,
)
from core.types import Size3, TrainingSubject

COLOURS = ("#8b909a", "#ff0000", "#0000ff")
OUTPUTS = NetworkOutputs(("air", "CSF", "GM"))
SCORED = ScoredNames.of(OUTPUTS.class_names, None, False)
SIZE = (2, 2, 1)


class Oracle(nn.Module):
    """Predicts the intensity as the class: the image is the prediction."""

    def __init__(self) -> None:
        super().__init__()
        self.modes: list[bool] = []

    def forward(self, image: Tensor) -> Tensor:
        self.modes.append(self.training)
        return 10 * torch.nn.functional.one_hot(image[:, 0].long(), 3).movedim(-1, 1).float()


def subjects(*pairs: tuple[np.ndarray, np.ndarray]) -> ResidentSubjects:
    """Subjects from (prediction, truth)."""
    subjects = [
        TrainingSubject(str(n), prediction[None].astype(np.float32), truth.astype(np.uint8), (1.0, 1.0, 1.0))
        for n, (prediction, truth) in enumerate(pairs)
    ]
    return ResidentSubjects(subjects, torch.device("cpu"))


def four(*values: int) -> np.ndarray:
    return np.array(values).reshape(SIZE)


def first_voxels(count: int) -> tuple[PatchLocation, ...]:
    """One sub-volume at the start of each subject."""
    return tuple(PatchLocation(n, (0, 0, 0)) for n in range(count))


def score(
    held_out: ResidentSubjects,
    batch_size: int = 1,
    loss: LossFunction = lambda output, label: label.float().mean(),
    model: nn.Module | None = None,
    sub_volumes: int | None = None,
) -> SubVolumeScore:
    locations = first_voxels(len(held_out) if sub_volumes is None else sub_volumes)
    validation_set = ValidationSet(held_out, locations, SIZE, COLOURS, OUTPUTS)
    return score_sub_volumes(model or Oracle(), validation_set, loss, batch_size=batch_size, precision="fp32")


HAND = (
    (four(0, 1, 1, 1), four(0, 0, 1, 1)),
    (four(0, 0, 0, 1), four(1, 0, 0, 2)),
)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_counts_are_pooled_over_all_sub_volumes(batch_size: int) -> None:
    scores = score(subjects(*HAND), batch_size)
    # Class 0: both 1 + 2, predicted 1 + 3, true 2 + 2. Class 1: both 2, predicted 3 + 1, true 2 + 1. Class 2: missed.
    assert scores.dice.tolist() == pytest.approx([2 * 3 / (4 + 4), 2 * 2 / (4 + 3), 0])
    mean_of_dice = (2 * 2 / (3 + 2) + 0) / 2
    assert scores.dice[1] != pytest.approx(mean_of_dice)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_loss_is_the_mean_over_sub_volumes_for_any_batch_size(batch_size: int) -> None:
    held_out = subjects(*HAND, (four(0, 0, 0, 0), four(2, 2, 2, 2)))
    assert score(held_out, batch_size).loss == pytest.approx((2 / 4 + 3 / 4 + 8 / 4) / 3)


def test_loss_receives_logits_and_label() -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    def loss(logits: Tensor | NetworkOutput, label: Tensor) -> Tensor:
        assert isinstance(logits, Tensor)
        seen.append((logits, label))
        return torch.ones(())

    score(subjects(*HAND), 2, loss)
    ((logits, label),) = seen
    assert logits.shape == (2, 3, *SIZE)
    assert not logits.requires_grad
    assert label.dtype == torch.uint8
    assert np.array_equal(label.numpy(), np.stack([truth for _, truth in HAND]))


def test_metric_names_state_whether_the_background_counts() -> None:
    values = score(subjects(*HAND)).values(SCORED)
    dice = (2 * 3 / 8, 2 * 2 / 7, 0)
    assert values == pytest.approx(
        {
            "val/loss": (2 / 4 + 3 / 4) / 2,
            "val/dice/CSF": dice[1],
            "val/dice/GM": dice[2],
            "val/dice_mean": (dice[1] + dice[2]) / 2,
            "val/sub_volume_dice_with_background": sum(dice) / 3,
        }
    )


def test_absent_class_is_nan_and_left_out_of_the_means() -> None:
    values = score(subjects((four(0, 1, 1, 1), four(0, 0, 1, 1)))).values(SCORED)
    assert math.isnan(values["val/dice/GM"])
    assert values["val/dice_mean"] == pytest.approx(4 / 5)
    assert values["val/sub_volume_dice_with_background"] == pytest.approx((2 / 3 + 4 / 5) / 2)


def test_errors_between_the_classes_of_a_region_do_not_count_for_it() -> None:
    """Truth CSF CSF GM GM air, predicted GM CSF GM air GM, and one voxel that the truth leaves out; by hand."""
    truth, predicted = (torch.tensor(v).view(1, 1, 1, 6) for v in ([1, 1, 2, 2, 0, IGNORE_INDEX], [2, 1, 2, 0, 2, 1]))
    brain = region_space({"brain": ("CSF", "GM"), "GM": ("GM",)}, {}, OUTPUTS.class_names)
    held_out = ValidationSet(subjects(*HAND), (), SIZE, COLOURS, NetworkOutputs(OUTPUTS.class_names, brain), brain)
    assert held_out.counts(predicted, truth).tolist() == [[0, 1, 1, 3], [1, 0, 2, 1], [1, 1, 1, 1]]
    scored = held_out.scored
    assert scored.names == ("CSF", "GM", "brain") and set(scored.in_mean) == {"brain", "GM"}
    assert scored.mean({"CSF": 0.1, "GM": 0.4, "brain": 0.8}) == pytest.approx(0.6)


def test_scores_of_no_sub_volumes_are_nan() -> None:
    scores = score(subjects(*HAND), sub_volumes=0)
    assert math.isnan(scores.loss)
    assert np.isnan(scores.dice).all()
    assert scores.picture is None


def test_picture_is_of_the_first_sub_volume() -> None:
    held_out = subjects(*HAND)
    images, labels = held_out.crop([PatchLocation(0, (0, 0, 0))], SIZE)
    expected = render_slice(images[0, 0], labels[0], torch.from_numpy(HAND[0][0]), COLOURS)
    for batch_size in (1, 2):
        picture = score(held_out, batch_size).picture
        assert picture is not None
        assert np.array_equal(picture, expected)


def test_model_is_scored_in_evaluation_mode_and_left_in_training_mode() -> None:
    network = Oracle()
    score(subjects(*HAND), model=network, sub_volumes=1)
    assert network.modes == [False]
    assert network.training


class OverflowingOracle(Oracle):
    """As the oracle, through values above the largest of fp16, in which its logits are NaN."""

    def __init__(self, classifier: float = 1e-6) -> None:
        super().__init__()
        self.passes: list[torch.dtype] = []
        self.hidden, self.classifier = nn.Conv3d(3, 3, 1, bias=False), nn.Conv3d(3, 3, 1, bias=False)
        for layer, factor in ((self.hidden, 1e6), (self.classifier, classifier)):
            layer.weight.data = factor * torch.eye(3).view(3, 3, 1, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        hidden = self.hidden(super().forward(image))
        self.passes.append(hidden.dtype)
        return self.classifier(hidden)


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32"])
def test_sub_volumes_whose_logits_overflow_are_computed_in_fp32(precision: str) -> None:
    """NaN would become background, with a Dice of 0 that chooses the best checkpoint."""
    from core.config import LossConfig
    from core.losses.build import build_loss

    loss = build_loss(LossConfig(loss="dice_ce"))
    held_out, model = subjects(*HAND), OverflowingOracle()
    expected = score(held_out, 1, loss)
    validation_set = ValidationSet(held_out, first_voxels(2), SIZE, COLOURS, OUTPUTS)
    scores = score_sub_volumes(model, validation_set, loss, batch_size=1, precision=precision)
    assert scores.dice.tolist() == expected.dice.tolist() and scores.loss == pytest.approx(expected.loss, rel=1e-2)
    once = {"fp32": torch.float32, "bf16": torch.bfloat16}
    of_batch = [once[precision]] if precision in once else [torch.float16, torch.float32]
    assert model.passes == of_batch * 2 and model.training


def test_sub_volumes_whose_logits_are_not_finite_in_fp32_are_named() -> None:
    with pytest.raises(NonFiniteLogitsError, match=r"^0, 1: .*not finite, in fp32 too"):
        score(subjects(*HAND), 2, model=OverflowingOracle(classifier=math.nan))


@pytest.mark.parametrize("mode", ["tiles", "whole"])
def test_whole_volume_dice_matches_the_metric(mode: str) -> None:
    generator = np.random.default_rng(0)
    shapes = [(9, 7, 5), (4, 11, 6), (3, 3, 3)]
    pairs = [(generator.integers(0, 3, shape), generator.integers(0, 3, shape)) for shape in shapes]
    pairs.append((np.minimum(pairs[0][0], 1), np.minimum(pairs[0][1], 1)))
    calls: list[tuple[int, int]] = []
    validation_set = ValidationSet(subjects(*pairs), (), (4, 4, 4), COLOURS, OUTPUTS)
    options = InferenceOptions(mode, (4, 4, 4))
    scores = score_whole_volumes(Oracle(), validation_set, options, lambda *n: calls.append(n))
    expected = np.stack([dice_per_class(truth, prediction, 3) for prediction, truth in pairs])
    np.testing.assert_allclose(scores.dice, expected)
    assert np.isnan(expected[3, 2])
    assert scores.mode == mode
    assert scores.seconds > 0
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_whole_volume_mean_is_over_subjects_then_foreground_classes() -> None:
    dice = np.array([[1.0, 0.5, np.nan], [1.0, 0.7, 0.1]])
    assert WholeVolumeScore(dice, "tiles", 1.0, SCORED).mean_dice == pytest.approx((0.6 + 0.1) / 2)
    assert math.isnan(WholeVolumeScore(np.full((2, 3), np.nan), "tiles", 1.0, SCORED).mean_dice)


# --- the picture ------------------------------------------------------------------------------------------------------


def example(shape: Size3 = (6, 8, 5), k: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """A dim image with ``k`` as the slice with most truth."""
    image = torch.linspace(0, 0.1, math.prod(shape)).reshape(shape).clone()
    truth = torch.zeros(shape, dtype=torch.uint8)
    truth[2:4, 3:5, k] = 1
    truth[0, 0, 0] = 2
    return image, truth, torch.zeros(shape, dtype=torch.long)


def test_picture_has_three_panels_of_the_axial_slice() -> None:
    picture = render_slice(*example(), COLOURS)
    assert picture.shape == (8, 3 * 6, 3)
    assert picture.dtype == np.uint8
    assert picture.flags["C_CONTIGUOUS"]


def test_anterior_is_up_and_the_subjects_left_is_on_the_right() -> None:
    # RAS: i grows to the subject's right, j towards the front. Front left is the first i and the last j.
    image, truth, prediction = example()
    image[0, -1, 3] = 100
    truth[0, -1, 3] = 1
    prediction[-1, 0, 3] = 2
    picture = render_slice(image, truth, prediction, COLOURS)
    grey, red, blue = np.split(picture.astype(int), 3, axis=1)
    width = 6
    assert np.unravel_index(grey.sum(-1).argmax(), grey.shape[:2]) == (0, width - 1)
    assert red[0, width - 1].tolist() == [255, int(0.45 * 255), int(0.45 * 255)]
    tinted = np.argwhere(blue[..., 2] - blue[..., 0] > 50)
    assert tinted.tolist() == [[7, 0]]


def test_labels_are_tinted_and_background_is_not() -> None:
    image, truth, prediction = example()
    image[:] = 0
    prediction[:] = truth
    prediction[2, 3, 3] = 2
    grey, red, other = np.split(render_slice(image, truth, prediction, COLOURS).astype(int), 3, axis=1)
    assert (grey == 0).all()
    marked = [int(0.55 * 255), 0, 0]
    assert (red == marked).all(-1).sum() == 4
    assert (red == 0).all(-1).sum() == 6 * 8 - 4
    assert np.argwhere((other == [0, 0, int(0.55 * 255)]).all(-1)).tolist() == [[8 - 1 - 3, 6 - 1 - 2]]


def test_picture_is_made_without_labels_and_without_contrast() -> None:
    flat = torch.full((4, 5, 3), 7.0, dtype=torch.float16)
    nothing = torch.zeros((4, 5, 3), dtype=torch.uint8)
    picture = render_slice(flat, nothing, nothing.long(), COLOURS)
    assert picture.shape == (5, 12, 3)
    assert (picture == 0).all()


def test_ignored_voxels_count_for_no_score() -> None:
    from core.config import LossConfig
    from core.losses.build import build_loss

    rng = np.random.default_rng(0)
    prediction, truth = (rng.integers(0, 3, (4, 6, 2)) for _ in range(2))
    whole = truth.copy()
    whole[:, 3:] = IGNORE_INDEX
    pairs, cropped = [(prediction, whole)], [(prediction[:, :3], truth[:, :3])]
    size = (4, 6, 2)

    def sub_volumes(held_out: list[tuple[np.ndarray, np.ndarray]], size: Size3, count: int = 1) -> SubVolumeScore:
        locations = tuple(PatchLocation(n, (0, 0, 0)) for n in range(count))
        validation_set = ValidationSet(subjects(*held_out), locations, size, COLOURS, OUTPUTS)
        loss = build_loss(LossConfig(loss="dice_ce"), ignore=True)
        return score_sub_volumes(Oracle(), validation_set, loss, batch_size=1, precision="fp32")

    score, expected = sub_volumes(pairs, size), sub_volumes(cropped, (4, 3, 2))
    assert np.array_equal(score.dice, expected.dice) and score.loss == pytest.approx(expected.loss, rel=1e-5)
    nothing = np.full_like(truth, IGNORE_INDEX)
    with_empty = sub_volumes([*pairs, (prediction, nothing)], size, count=2)
    assert np.array_equal(with_empty.dice, score.dice) and with_empty.loss == pytest.approx(score.loss)
    assert math.isnan(sub_volumes([(prediction, nothing)], size).loss)
    options = InferenceOptions("tiles", size, 0.5, "fp32")
    validation_set = ValidationSet(subjects(*pairs), (), size, COLOURS, OUTPUTS)
    volumes = score_whole_volumes(Oracle(), validation_set, options)
    assert np.array_equal(volumes.dice[0], dice_per_class(whole, prediction, 3))


def test_picture_hatches_ignored_voxels() -> None:
    truth = torch.zeros(12, 12, 2, dtype=torch.uint8)
    truth[:, :, 0], truth[4, 4, 1] = IGNORE_INDEX, 1
    truth[:2, :, 1] = IGNORE_INDEX
    picture = render_slice(torch.zeros(12, 12, 2), truth, torch.zeros(12, 12, 2, dtype=torch.long), COLOURS)
    panel = picture[:, 12:24].reshape(-1, 3)
    hatched = (0.55 * np.array(rgb(IGNORE_COLOUR))).astype(np.uint8)
    assert (panel == (140, 0, 0)).all(axis=1).sum() == 1, "the slice with a labelled voxel is shown"
    assert 0 < (panel == hatched).all(axis=1).sum() < 24
