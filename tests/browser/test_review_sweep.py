"""A sweep of the wheel on Review, whose page runs anew once the crosshair rests: each event's slice is drawn, and no
byte is moved before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Server
from tests.support.quiz_runs import QuizRun
from tests.support.review_cases import Case, hand_made_case, mistakes
from tests.support.viewers import COMPLETE, pane, rest_pointer, voxel, wait_until_ready
from tests.support.wheel_sweeps import Traffic, at_slice, hold_rest_timer, rest, sweep, waiting_reports
from ui.review.training import POLL_S

pytestmark = [pytest.mark.browser, pytest.mark.slow]

NOTCH = 100  # pixels of a wheel's step
REST_BYTES = 10_000  # a part of the page anew, 2,917 when written, without voxels: those of this case are 17,280
# The run of the tests counts as active, as its process lives: its page looks every few seconds for what training keeps.
WITHOUT_POLLS = f"""
const every = window.setInterval;
window.setInterval = (call, ms, ...rest) => (ms === {POLL_S * 1000:g} ? 0 : every(call, ms, ...rest));
"""


@pytest.fixture
def case(quiz_server: Server, quiz_run: QuizRun) -> Iterator[Case]:
    with hand_made_case(quiz_server, quiz_run, mistakes) as made:
        yield made


def test_each_event_of_a_sweep_is_drawn_and_moves_no_byte_until_the_crosshair_rests(page: Page, case: Case) -> None:
    traffic = Traffic.of(page)
    page.add_init_script(WITHOUT_POLLS)
    hold_rest_timer(page)
    page.goto(case.url)
    wait_until_ready(page)
    slices = case.truth.shape[2]
    axial = pane(page, "axial", "prediction")
    axial.canvas.focus()
    page.keyboard.press("Home")
    expect(page).to_have_url(at_slice(1))
    expect(page.locator(COMPLETE)).to_be_attached()
    rest_pointer(axial)
    before = voxel(page)

    traffic.wait_until_quiet(page)
    traffic.forget()
    steps = sweep(page, axial, [-NOTCH] * (slices - 1) + [NOTCH] * (slices - 2))
    expected = [*range(1, slices), *range(slices - 2, 0, -1)]
    assert [step.slice for step in steps] == expected, "each event's slice, in the frame after the event"
    assert all(step.taken for step in steps), "the page does not scroll"
    pictures: dict[int, int] = {}
    for step in steps:
        assert pictures.setdefault(step.slice, step.picture) == step.picture, "a slice looks the same on the way back"
    assert len(set(pictures.values())) == slices - 1, "and no two look the same"
    assert voxel(page) == (before[0], before[1], 1)
    assert waiting_reports(page) == 1, "one report for all of the steps"
    assert (traffic.bytes, traffic.requests) == (0, [])

    rest(page)
    expect(page).to_have_url(at_slice(2))
    expect(page.locator(COMPLETE)).to_be_attached()
    assert 0 < traffic.bytes < REST_BYTES
    assert not [url for url in traffic.requests if "/api/volumes/" in url]
