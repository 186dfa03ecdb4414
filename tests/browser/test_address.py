"""The address of a page: history, reload, values that are not known, and the title of the tab."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from tests.browser.conftest import Server
from tests.support.held_connection import HeldConnection
from tests.support.menus import choose_option
from tests.support.slow_process import slowed
from tests.support.viewers import COMPLETE, wait_until_ready

pytestmark = [pytest.mark.browser, pytest.mark.slow]
# Notes that a request of the page has been kept from the server.
NOTE_REFUSAL = """() => {
  const original = serverMessages.isWanted;
  serverMessages.isWanted = (bytes) => { const wanted = original(bytes); window.refused ||= !wanted; return wanted; };
}"""


@pytest.mark.long
def test_history_has_one_entry_per_page_with_an_address_that_existed(quiz_server: Server, page: Page) -> None:
    def title(name: str) -> None:
        expect(page.get_by_role("heading", level=1)).to_have_text(name)

    page.goto(f"{quiz_server.url}/home")
    title("Segmentarium")
    before = page.evaluate("history.length")
    visited = []
    for name in ("Train", "Data", "Review"):
        page.get_by_test_id("stTopNavLink").filter(has_text=name).click()
        title(name)
        if name == "Data":
            choose_option(page.get_by_role("combobox", name="Data set"), "balls")
            page.get_by_text("Slice by slice", exact=True).click()
            page.wait_for_url(re.compile("view=Slice"))
            page.wait_for_url(re.compile("subject="))
        if name in ("Data", "Review"):
            wait_until_ready(page)
        page.wait_for_function("name => document.title.startsWith(name)", arg=name)
        page.wait_for_selector(COMPLETE)
        visited.append(page.url)
    assert "data=balls" in visited[1] and "view=Slice" in visited[1] and "case=" in visited[2]
    assert page.evaluate("history.length") == before + len(visited)
    for url, name in reversed(
        [(f"{quiz_server.url}/", "Segmentarium"), *zip(visited, ("Train", "Data"), strict=False)]
    ):
        page.go_back()
        title(name)
        expect(page).to_have_url(url, timeout=30_000)
        page.wait_for_selector(COMPLETE)
    page.go_forward()
    title("Train")
    page.go_forward()
    title("Data")
    page.get_by_role("button", name="Train on this").click()  # a button that leads to another page
    title("Train")
    page.wait_for_url("**/train?data=balls&preset=*")
    page.go_back()
    title("Data")
    assert page.url == visited[1]


def test_request_of_a_part_of_a_page_is_never_taken_for_one_of_the_history(server: Server, page: Page) -> None:
    """A timer may send the query from before the server changed the address: Streamlit keeps it a moment longer."""

    def is_marked(fragment: str) -> bool:
        request = ClientState(query_string="run=earlier", fragment_id=fragment)
        sent = BackMsg(rerun_script=request).SerializeToString()
        marked = page.evaluate("bytes => [...serverMessages.marked(new Uint8Array(bytes))]", list(sent))
        return BackMsg.FromString(bytes(marked)).rerun_script.is_history_navigation

    page.goto(f"{server.url}/runs?run=later")
    expect(page.get_by_role("heading", name="Runs", exact=True)).to_be_visible()
    assert is_marked(""), "a link of the page"
    assert not is_marked("table")


@pytest.mark.long
@pytest.mark.parametrize("late", ["run of the page", "run of the viewer", "request of the viewer"])
def test_back_shows_the_page_and_its_address_although_the_other_one_still_runs(
    quiz_server: Server, page: Page, late: str
) -> None:
    connection = HeldConnection(page)
    page.goto(f"{quiz_server.url}/data?data=balls&view=Slice+by+slice")
    wait_until_ready(page)
    page.wait_for_url(re.compile("subject="))
    page.wait_for_selector(COMPLETE)
    address = page.url
    page.get_by_test_id("stTopNavLink").filter(has_text="Review").click()
    wait_until_ready(page)
    page.wait_for_url(re.compile("/review.*case="))
    page.wait_for_selector(COMPLETE)
    entries = page.evaluate("history.length")
    pane = page.locator("canvas.pane").first
    pane.focus()
    connection.hold()
    if late == "run of the page":
        page.get_by_role("option", selected=False, name="ball").first.click()
        connection.wait_for(b"case=")
    elif late == "run of the viewer":
        page.keyboard.press("ArrowUp")
        connection.wait_for(b"at=")
    page.go_back(wait_until="commit")
    if late == "request of the viewer":
        page.evaluate(NOTE_REFUSAL)
        page.keyboard.press("ArrowUp")
        page.wait_for_function("window.refused")
    connection.wait_for(b"Train on this")  # all of the page
    connection.release()
    expect(page.get_by_role("heading", level=1)).to_have_text("Data")
    wait_until_ready(page)
    page.wait_for_selector(COMPLETE)
    assert page.url == address
    assert page.evaluate("history.length") == entries
    page.get_by_text("Middle slices", exact=True).click()  # the page answers, and with its own parameters
    page.wait_for_url(re.compile(r"/data\?((?!view|case|model).)*$"))
    page.go_forward()
    expect(page.get_by_role("heading", level=1)).to_have_text("Review")
    page.wait_for_url(re.compile("/review.*case="))


@pytest.mark.long
def test_click_on_the_page_that_back_has_left_but_that_is_still_shown_keeps_its_own_parameters(
    quiz_server: Server, page: Page
) -> None:
    connection = HeldConnection(page)
    page.goto(f"{quiz_server.url}/data?data=balls&view=Measures")
    page.wait_for_selector(COMPLETE)
    page.get_by_test_id("stTopNavLink").filter(has_text="Runs").click()
    page.wait_for_url("**/runs")
    page.wait_for_selector("[data-points]")
    page.wait_for_selector(COMPLETE)
    connection.hold()
    page.go_back(wait_until="commit")
    assert "view=Measures" in page.url, "the address is that of Data, while Runs is still shown"
    page.get_by_test_id("stTopNavLink").filter(has_text="Runs").click()
    connection.wait_for(b"--logdir")  # the end of Runs
    connection.release()
    page.wait_for_url("**/runs")
    page.wait_for_selector(COMPLETE)
    assert page.url == f"{quiz_server.url}/runs"


def test_viewer_answers_on_a_page_that_another_one_led_to_at_once(quiz_server: Server, page: Page) -> None:
    names: dict[str, str] = {}
    asked: list[str] = []

    def note_page(message: str | bytes) -> None:
        """Note of which page the button asks for a run; that run leads to Review."""
        assert isinstance(message, bytes)
        request = BackMsg.FromString(message)
        if is_leaving and request.WhichOneof("type") == "rerun_script" and not request.rerun_script.fragment_id:
            asked.append(names.get(request.rerun_script.page_script_hash, ""))

    def is_dropped(message: str | bytes) -> bool:
        """Whether the message says that Runs is the page; a server drops it too if that run ends before it is sent."""
        assert isinstance(message, bytes)
        content = ForwardMsg.FromString(message)
        if content.WhichOneof("type") != "navigation":
            return False
        names.update({p.page_script_hash: p.url_pathname for p in content.navigation.app_pages})
        return is_leaving and names[content.navigation.page_script_hash] == "runs"

    is_leaving = False
    connection = HeldConnection(page)
    connection.on_request, connection.is_dropped = note_page, is_dropped
    page.goto(f"{quiz_server.url}/runs")
    page.wait_for_selector(COMPLETE)
    is_leaving = True
    page.get_by_role("button", name="Review").first.click()
    wait_until_ready(page)
    page.wait_for_url(re.compile("/review.*case="))
    page.wait_for_selector(COMPLETE)
    assert asked[0] == "runs"
    page.locator("canvas.pane").first.focus()
    page.keyboard.press("ArrowUp")
    page.wait_for_url(re.compile("at="))


def test_part_of_a_page_that_was_left_does_not_empty_the_next_one(quiz_server: Server, page: Page) -> None:
    parts: list[bytes] = []
    begun: list[tuple[str, bool]] = []
    names: dict[str, str] = {}

    def note_part(message: str | bytes) -> None:
        """Keep the requests of the part of Runs that updates itself."""
        assert isinstance(message, bytes)
        if BackMsg.FromString(message).rerun_script.fragment_id:
            parts.append(message)

    def repeat_part(message: str | bytes) -> bool:
        """Ask for the part of Runs again while the server makes Review, as a timer does that ends just then: with each
        answer, since only a request that arrives before the last one counts."""
        assert isinstance(message, bytes)
        content = ForwardMsg.FromString(message)
        if content.WhichOneof("type") == "navigation":
            names.update({p.page_script_hash: p.url_pathname for p in content.navigation.app_pages})
        if content.WhichOneof("type") == "new_session":
            name = names.get(content.new_session.page_script_hash, "")
            begun.append((name, bool(content.metadata.run.fragment_ids)))
        if begun and begun[-1] == ("review", False) and content.WhichOneof("type") != "script_finished":
            connection.request(parts[-1])
        return False

    connection = HeldConnection(page)
    connection.on_request, connection.is_dropped = note_part, repeat_part
    for _ in range(20):  # until the request arrives before Review is complete; afterwards the server ignores it
        parts.clear()
        begun.clear()
        page.goto(f"{quiz_server.url}/runs")
        page.wait_for_selector(COMPLETE)
        while not parts:
            page.wait_for_timeout(50)
        with slowed(quiz_server.process.pid):  # the request is there while Review is made
            page.get_by_role("button", name="Review").first.click()
            page.wait_for_url(re.compile("/review.*case="))
            page.wait_for_selector(COMPLETE)
        wait_until_ready(page)
        if ("runs", True) in begun[begun.index(("review", False)) :]:
            break
    else:
        pytest.fail(f"Review was complete at once each time: {begun}")
    page.locator("canvas.pane").first.focus()
    page.keyboard.press("ArrowUp")
    page.wait_for_url(re.compile("at="))
    expect(page.get_by_role("heading", level=1)).to_have_text("Review")


@pytest.mark.long
def test_reload_keeps_view_subject_and_uploads_and_unknown_values_are_reported(quiz_server: Server, page: Page) -> None:
    page.goto(f"{quiz_server.url}/data?data=balls&view=Slice+by+slice&subject=ball_4")
    wait_until_ready(page)
    page.reload()
    wait_until_ready(page)
    expect(page.get_by_role("combobox", name="Subject")).to_have_value("ball_4")
    assert page.title() == "Data · balls — Segmentarium"

    page.goto(f"{quiz_server.url}/predict")
    image = next(Path(quiz_server.environment["SEGMENTARIUM_DATA"]).glob("balls/imagesTr/*.nii.gz"))
    page.locator("input[type=file]").set_input_files(image)
    expect(page.get_by_role("button", name=f"Remove {image.name}")).to_be_visible()
    page.wait_for_url("**/predict?*uploads=*")
    address = page.url
    page.reload()
    expect(page.get_by_role("button", name=f"Remove {image.name}")).to_be_visible()
    page.context.clear_cookies()  # as in another browser
    page.goto(address)
    expect(page.get_by_text("The uploaded files are gone")).to_be_visible()
    expect(page.get_by_role("button", name=f"Remove {image.name}")).to_have_count(0)

    page.goto(f"{quiz_server.url}/review?model=nope&case=nobody")
    expect(page.get_by_text("There is no model called nope here")).to_be_visible()
    expect(page.get_by_text("There is no case called nobody here")).to_be_visible()
    page.get_by_test_id("stTopNavLink").filter(has_text="Quiz").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Quiz")
    expect(page.get_by_text("There is no model called nope here")).to_have_count(0)
