"""Lists of the project's own components, without a server: one stop of the Tab key each; dots of the strip plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from core.paths import project_root
from tests.support.accessibility import focused

pytestmark = [pytest.mark.browser, pytest.mark.slow]

UI = project_root() / "ui"
CASES = ("shared/roving_focus.js", "review/case_list/strip_plot.js", "review/case_list/cases.js")
RUNS = ("shared/roving_focus.js", "runs/runs_table/table.js")
BODY = '<button>before</button><div id="host"><div class="root"></div></div><button>after</button>'
SHOW = """data => show({
    data, parentElement: document.querySelector('#host'),
    setTriggerValue: (_, id) => { window.chosen = id; },
    setStateValue: (_, clicks) => { window.chosen = clicks.at(-1)[2]; },
})"""
ROWS = 260
IN_FOCUS = "document.activeElement.closest('.case, tr')?.dataset.number ?? document.activeElement.textContent"
NUMBER_ROWS = "rows => rows.forEach((row, n) => { row.dataset.number = n; })"


def load(page: Page, scripts: Sequence[str], style: str, data: dict[str, Any]) -> None:
    """Show a component between two buttons."""
    page.set_content(BODY)
    source = "\n".join((UI / name).read_text("utf-8") for name in scripts)
    page.add_style_tag(path=Path(UI / style))
    page.add_script_tag(content=source.replace("export default function", "window.show = function"))
    page.evaluate(SHOW, data)


def cases(selected: int, count: int = ROWS, plot: dict[str, Any] | None = None) -> dict[str, Any]:
    rows = [
        {
            "id": f"case {n}",
            "value": "0.9",
            "bars": [],
            "title": "",
            "missed": False,
            "outlier": False,
            "waiting": False,
        }
        for n in range(count)
    ]
    return {"rows": [{**row, "mark": ""} for row in rows], "selected": f"case {selected}", "plot": plot}


def run_rows(selected: int) -> dict[str, Any]:
    text = dict.fromkeys(
        ("shown", "data", "preset", "epoch", "dice", "on", "started", "length", "title", "left", "started_at"), "x"
    )
    row: dict[str, Any] = {**text, "state": "finished", "group": False, "tags": [], "share": None, "sort": {}}
    rows = [{**row, "id": f"run {n}", "name": f"run {n}"} for n in range(ROWS)]
    return {"rows": rows, "selected": f"run {selected}", "ticked": {}, "full": False, "tickable": True}


def presses(page: Page, until: str) -> int:
    """Presses of Tab from the first button until a control with this name has the focus."""
    page.get_by_role("button", name="before").focus()
    for count in range(1, 30):
        page.keyboard.press("Tab")
        if focused(page)["name"] == until:
            return count
    raise AssertionError(f"not reached: {until}")


def press(page: Page, key: str) -> str:
    """The number of the row that has the focus after a key, or the text of what has it."""
    page.keyboard.press(key)
    return str(page.evaluate(IN_FOCUS))


def test_a_list_of_260_cases_is_one_stop_in_which_keys_move(page: Page) -> None:
    load(page, CASES, "review/case_list/cases.css", cases(5))
    page.locator(".case").evaluate_all(NUMBER_ROWS)
    assert presses(page, "after") == 2
    assert press(page, "Shift+Tab") == "5", "the selected case"
    for key, row in (
        ("ArrowDown", 6),
        ("End", 259),
        ("ArrowDown", 259),
        ("ArrowUp", 258),
        ("PageUp", 248),
        ("Home", 0),
        ("ArrowUp", 0),
    ):
        assert press(page, key) == str(row), key
    assert press(page, "PageDown") == "10"
    assert press(page, "Tab") == "after" and press(page, "Shift+Tab") == "10", "the row that had the focus"
    page.keyboard.press("Enter")
    assert page.evaluate("window.chosen") == "case 10"
    page.evaluate(SHOW, cases(10))  # the page runs again
    page.locator(".case").evaluate_all(NUMBER_ROWS)
    assert page.evaluate(IN_FOCUS) == "10" and press(page, "ArrowDown") == "11", "the keyboard stays where it was"
    expect(page.locator(".case[tabindex='0']")).to_have_count(1)
    page.evaluate(SHOW, cases(0, count=3))  # a filter leaves three
    assert focused(page)["name"].startswith("case 2")
    assert presses(page, "after") == 2


def test_a_table_of_260_runs_is_one_stop_after_its_headings(page: Page) -> None:
    load(page, RUNS, "runs/runs_table/table.css", run_rows(3))
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(ROWS)
    rows.evaluate_all(NUMBER_ROWS)
    headings = page.locator("thead button").count()
    assert presses(page, "after") == headings + 2
    assert press(page, "Shift+Tab") == "3", "the selected run"
    for key, row in (("End", 259), ("ArrowUp", 258), ("Home", 0), ("ArrowDown", 1)):
        assert press(page, key) == str(row), key
    page.evaluate(SHOW, run_rows(3))  # the table is updated every two seconds
    assert page.evaluate(IN_FOCUS) == "1"
    page.keyboard.press("Enter")
    assert page.evaluate("window.chosen") == "run 1"
    page.get_by_role("button", name="Name").click()
    page.get_by_role("button", name="Name").click()  # the last name first
    assert presses(page, "after") == headings + 2
    assert press(page, "Shift+Tab") == "3"


def test_strip_plot_has_a_dot_per_case_and_a_click_on_one_chooses_its_case(page: Page) -> None:
    values = [0.5, 0.81, 0.82, 0.9, 0.2]
    plot = {
        "label": "Dice",
        "points": [{"id": f"case {n}", "value": v, "text": str(v), "outlier": n == 4} for n, v in enumerate(values)],
        "median": 0.81, "quartiles": [0.5, 0.82], "low": 0.2, "high": 0.9, "ends": ["0.2", "0.9"],
        "text": "median 0.81",
    }  # fmt: skip
    load(page, CASES, "review/case_list/cases.css", cases(1, len(values), plot))
    dots = page.locator(".plot .dot")
    expect(dots).to_have_count(len(values))
    middle: dict[str, tuple[float, float]] = {}
    for n in range(len(values)):
        box = dots.nth(n).bounding_box()
        assert box is not None and box["width"] > 4
        id = str(dots.nth(n).locator("title").text_content()).split(":")[0]
        middle[id] = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    x = [middle[f"case {n}"][0] for n in range(len(values))]
    span = (x[3] - x[4]) / (0.9 - 0.2)
    assert x == pytest.approx([x[4] + span * (v - 0.2) for v in values], abs=0.5), "at its value"
    assert middle["case 1"][1] != middle["case 2"][1], "nearly equal values lie above one another"
    expect(page.locator(".plot .dot.selected")).to_have_count(1)
    for n in (4, 2, 1):
        page.mouse.click(*middle[f"case {n}"])
        assert page.evaluate("window.chosen") == f"case {n}"
