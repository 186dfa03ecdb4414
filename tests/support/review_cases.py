"""A case on the Review page whose prediction is made by hand."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pytest
from playwright.sync_api import Page

from core.colours import rgb
from core.datasets import load_subject, open_dataset
from core.imaging.volume import write_label
from core.types import VoxelIndex
from tests.browser.conftest import Server
from tests.support.quiz_runs import QuizRun
from tests.support.viewers import Pane, open_menu, pane, settle, voxel, wait_until_ready

COLOUR_TIMEOUT_S = 10.0

Holds: TypeAlias = Callable[[tuple[int, int, int]], bool]  # whether a colour is as wanted


@dataclass(frozen=True)
class Case:
    """The case, with class indices of truth and prediction, and the intensities of its first modality."""

    url: str
    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray

    def first(self, truth: int, prediction: int) -> VoxelIndex:
        """A voxel of these classes, in the middle of those that have them."""
        found = np.argwhere((self.truth == truth) & (self.prediction == prediction))
        i, j, k = (int(n) for n in found[len(found) // 2])
        return i, j, k


def mistakes(truth: np.ndarray) -> np.ndarray:
    """A false block of class 1, class 2 missed but for a voxel, and class 1 taken for class 2."""
    prediction = truth.copy()
    prediction[truth == 1] = 2
    prediction[truth == 2] = 0
    prediction[tuple(np.argwhere(truth == 2)[0])] = 2
    prediction[1:5, 1:5, 1:5] = 1
    return prediction


@contextlib.contextmanager
def hand_made_case(server: Server, run: QuizRun, make: Callable[[np.ndarray], np.ndarray]) -> Iterator[Case]:
    """A case of the run on the server, whose kept label map is replaced for the test.

    Parameters
    ----------
    make : callable. Makes the prediction of the truth.
    """
    dataset = open_dataset(run.data)
    record = min((server.checkpoints / run.run / "predictions").glob("*/*.json"))  # the same one on every server
    subject = json.loads(record.read_text())["subject"]
    loaded = load_subject(dataset, subject)
    assert loaded.label is not None
    prediction = make(loaded.label)
    file = record.with_name(record.name.replace(".json", ".nii.gz"))
    before = file.read_bytes()
    write_label(file, dataset.labels.to_raw(prediction), loaded.stored, loaded.first_image)
    url = f"{server.url}/review?model={run.run}&case={subject}"
    yield Case(url, loaded.image[0], loaded.label, prediction)
    file.write_bytes(before)


def open_case(page: Page, case: Case, at: VoxelIndex) -> Pane:
    """The pane of errors at a voxel, without crosshair and opaque."""
    page.goto(case.url + "&at=" + ",".join(str(n + 1) for n in at))
    wait_until_ready(page)
    open_menu(page, "Overlay")
    page.get_by_role("slider", name="Opacity").fill("1")
    page.keyboard.press("Escape")  # closes the menu
    pane(page, "axial", "errors").canvas.focus()
    page.keyboard.press("x")
    settle(page)
    assert voxel(page) == at
    return pane(page, "axial", "errors")


def colour_at(shown: Pane, case: Case, at: VoxelIndex) -> tuple[int, int, int]:
    """Colour of a voxel in the axial slice that is shown (radiological: mirrored, anterior at the top)."""
    return shown.voxel_colour(case.truth.shape[0] - 1 - at[0], case.truth.shape[1] - 1 - at[1])


def expect_colour(shown: Pane, case: Case, at: VoxelIndex, colour: str | Sequence[int], why: str = "") -> None:
    """Wait until a voxel has a colour, ``#rrggbb`` or red, green and blue from 0 to 255, with a tolerance of 3."""
    wanted = rgb(colour) if isinstance(colour, str) else tuple(colour)
    _expect(shown, case, at, lambda found: found == pytest.approx(wanted, abs=3), f"{wanted} {why}")


def expect_grey(shown: Pane, case: Case, at: VoxelIndex, why: str = "") -> None:
    """Wait until a voxel has a grey of the image, that is, no overlay."""
    _expect(shown, case, at, lambda found: max(found) - min(found) <= 2, f"grey {why}")


def _expect(shown: Pane, case: Case, at: VoxelIndex, holds: Holds, wanted: str) -> None:
    """Wait until the colour of a voxel is as wanted: a busy page may draw later than after two frames."""
    end = time.monotonic() + COLOUR_TIMEOUT_S
    while not holds(found := colour_at(shown, case, at)):
        assert time.monotonic() < end, f"colour of voxel {at}: expected {wanted.strip()}, found {found}"
        time.sleep(0.05)
