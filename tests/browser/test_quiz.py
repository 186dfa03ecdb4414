"""The quiz in a real browser: by keyboard to the score, by mouse, through a reload; layout."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from core.study.answers import read_answers
from core.study.statistics import Score
from tests.browser.conftest import Server
from tests.support.quiz_player import Player
from tests.support.quiz_runs import QuizRun
from tests.support.viewers import settle, voxel

pytestmark = [pytest.mark.browser, pytest.mark.slow]
KEYS = ("ArrowLeft", "ArrowRight")


@pytest.fixture
def quiz_url(quiz_server: Server, quiz_run: QuizRun) -> str:
    return f"{quiz_server.url}/quiz?model={quiz_run.run}"


def game_of(page: Page) -> str:
    return parse_qs(urlsplit(page.url).query)["game"][0]


@pytest.mark.long
def test_game_played_by_keyboard_to_the_score(quiz_server: Server, quiz_url: str, page: Page) -> None:
    player = Player(page)
    player.play(quiz_url, 10)
    number, going = 1, True
    while going:
        observed = player.question(number)
        assert observed.left != observed.right
        verdict = player.answer(number, KEYS[number % 2], number % 4 + 1)
        answers = read_answers(quiz_server.checkpoints, game_of(page))
        assert [a.number for a in answers] == list(range(1, number + 1)), "stored before the verdict is shown"
        assert verdict.startswith("✓ Right" if answers[-1].correct else "✗ Wrong")
        for key in ("ArrowLeft", "4", "ArrowRight", "1"):  # ignored after the answer
            page.keyboard.press(key)
        going = player.next_question(number)
        number += 1
    answers = read_answers(quiz_server.checkpoints, game_of(page))
    assert [a.chosen_side for a in answers] == [("left", "right")[n % 2] for n in range(1, 11)]
    assert [a.confidence for a in answers] == [n % 4 + 1 for n in range(1, 11)]
    assert all(0 < a.seconds < 60 for a in answers)
    score = Score.of(a.correct for a in answers)
    low, high = score.interval
    expect(page.get_by_test_id("stMetric").first).to_contain_text(f"{score.correct} of 10")
    expect(page.get_by_test_id("stMetric").nth(2)).to_contain_text(f"{100 * low:.0f} to {100 * high:.0f} %")
    expect(page.get_by_text(f"python -m core quiz report {game_of(page)}")).to_be_visible()
    page.get_by_role("radio", name=re.compile(r"^7 ")).click()
    expect(page.get_by_text(answers[6].why, exact=False)).to_be_visible()
    expect(page.locator("canvas.pane")).to_have_count(3)


@pytest.mark.long
def test_game_played_by_mouse_and_through_a_reload(quiz_server: Server, quiz_url: str, page: Page) -> None:
    player = Player(page)
    player.play(quiz_url, 10)
    first = player.question(1)
    page.get_by_role("button", name="2 rather unsure").click()
    expect(page.get_by_text("Choose a side first")).to_be_visible()
    player.frames.clear()
    page.reload()
    page.wait_for_selector(".root[data-voxel]")
    again = player.question(1)
    assert (again.left, again.right) == (first.left, first.right), "the question is kept"
    page.get_by_role("button", name="The right one").click()
    page.get_by_role("button", name="The left one").click()
    expect(page.get_by_role("button", name="The right one")).to_have_attribute("aria-pressed", "false")
    page.get_by_role("button", name="4 certain").click()
    expect(page.get_by_text("the ground truth is on the")).to_be_visible()
    (answer,) = read_answers(quiz_server.checkpoints, game_of(page))
    assert (answer.chosen_side, answer.confidence) == ("left", 4)
    expect(page.locator("canvas.pane")).to_have_count(3)
    row = page.locator("canvas.pane").nth(0).get_attribute("data-row")
    assert row == ("truth" if answer.truth_side == "left" else "prediction"), "the segmentations keep their sides"
    page.reload()
    expect(page.get_by_text("the ground truth is on the")).to_be_visible()
    page.get_by_role("button", name="Next question").click()
    expect(page.get_by_label("question 2 of 10")).to_be_visible()
    for url in (first.left, first.right):
        assert page.request.get(f"{quiz_server.url}/{url}").status == 404, "volumes are withdrawn"
    page.get_by_role("button", name="End the game").click()
    expect(page.get_by_test_id("stMetric").first).to_contain_text("of 1")
    page.get_by_role("button", name="Play again").click()
    expect(page.get_by_label("question 1 of 10")).to_be_visible()


@pytest.mark.long
def test_stack_scrolls_on_both_sides_at_once(quiz_url: str, page: Page) -> None:
    player = Player(page)
    page.goto(quiz_url)
    page.get_by_label("Slices").get_by_text("a stack of 5").click()
    player.play("", 10)
    player.question(1)
    panes = page.locator("canvas.pane")
    expect(panes).to_have_count(2)
    settle(page)
    crosshair = page.get_by_role("group", name="Marks").get_by_role("button", name="crosshair")
    expect(crosshair).to_have_attribute("aria-pressed", "false")
    plain = panes.nth(0).evaluate("c => c.toDataURL()")
    crosshair.click()
    settle(page)
    assert panes.nth(0).evaluate("c => c.toDataURL()") != plain, "the crosshair is a choice"
    before, shown = voxel(page), [panes.nth(n).get_attribute("data-slice") for n in (0, 1)]
    assert shown == ["2", "2"], "the slice in question is the middle one"
    panes.nth(1).click()  # the pane has the keys now; left and right still choose a side
    page.keyboard.press("ArrowUp")
    settle(page)
    assert [panes.nth(n).get_attribute("data-slice") for n in (0, 1)] == ["3", "3"] and voxel(page) != before
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("button", name="The right one")).to_have_attribute("aria-pressed", "true")
    assert [panes.nth(n).get_attribute("data-slice") for n in (0, 1)] == ["3", "3"]
    assert panes.nth(0).get_attribute("data-at") == panes.nth(1).get_attribute("data-at")


@pytest.mark.long
@pytest.mark.parametrize(("width", "scheme"), [(800, "dark"), (1440, "light")])
def test_quiz_does_not_scroll_sideways_and_loads_nothing_from_other_hosts(
    quiz_server: Server, quiz_url: str, browser: Browser, width: int, scheme: str
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    page, requested = context.new_page(), []
    page.on("request", lambda request: requested.append(request.url))
    player = Player(page)

    def overflow() -> int:
        inner = "[...document.querySelectorAll('[data-testid=stMain], html')].map(e => e.scrollWidth - e.clientWidth)"
        return max(page.evaluate(inner))

    player.play(quiz_url, 10)
    player.question(1)
    assert overflow() <= 0
    bar, viewer = (handle.bounding_box() for handle in player.handles())
    assert bar is not None and viewer is not None and bar["y"] + bar["height"] <= viewer["y"]
    assert viewer["y"] + min(viewer["height"], 400) <= 900, "bar and pictures are on the screen together"
    player.answer(1, "ArrowLeft", 1)
    assert overflow() <= 0
    page.get_by_role("button", name="End the game").click()
    expect(page.get_by_test_id("stMetric").first).to_be_visible()
    assert overflow() <= 0
    outside = [
        u for u in requested if urlsplit(u).scheme not in ("data", "blob") and urlsplit(u).port != quiz_server.port
    ]
    assert outside == []
    context.close()
