"""Messages of a session that were not sent yet when its page, or a fragment of it, runs again."""

from __future__ import annotations

import pytest
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.runtime import app_session
from streamlit.runtime.forward_msg_queue import ForwardMsgQueue

from ui.server.message_queue import CompleteMessageQueue, send_all_messages


def _element(place: int, text: str, fragment: str = "") -> ForwardMsg:
    message = ForwardMsg()
    message.metadata.delta_path.extend([0, place])
    message.delta.new_element.markdown.body = text
    message.delta.fragment_id = fragment
    return message


def _begin(run: str) -> ForwardMsg:
    message = ForwardMsg()
    message.new_session.page_script_hash = run
    return message


def _finish(status: ForwardMsg.ScriptFinishedStatus.ValueType) -> ForwardMsg:
    message = ForwardMsg()
    message.script_finished = status
    return message


def _page(queue: ForwardMsgQueue) -> list[ForwardMsg]:
    """The messages of a run of a page with a fragment between two elements, written to a queue."""
    written = [
        _begin("page"), _element(0, "above"), _element(1, "first", "part"), _element(2, "below"),
        _finish(ForwardMsg.FINISHED_SUCCESSFULLY),
    ]  # fmt: skip
    for message in written:
        queue.enqueue(message)
    return written


def test_all_is_sent_in_order_when_a_fragment_runs_again() -> None:
    queue = CompleteMessageQueue()
    written = _page(queue)
    queue.clear(retain_lifecycle_msgs=True, fragment_ids_this_run=["part"])
    again = [
        _begin("fragment"),
        _element(1, "second", "part"),
        _finish(ForwardMsg.FINISHED_FRAGMENT_RUN_SUCCESSFULLY),
    ]
    for message in again:
        queue.enqueue(message)
    assert queue.flush() == written + again


def test_streamlit_itself_still_drops_the_fragment_of_a_page_that_has_finished() -> None:
    """If this fails, the class may no longer be needed."""
    queue = ForwardMsgQueue()
    written = _page(queue)
    queue.clear(retain_lifecycle_msgs=True, fragment_ids_this_run=["part"])
    assert queue.flush() == [message for message in written if message.delta.fragment_id != "part"]


def test_page_that_runs_again_replaces_what_was_not_sent() -> None:
    queues = CompleteMessageQueue(), ForwardMsgQueue()
    for queue in queues:
        _page(queue)
        queue.clear(retain_lifecycle_msgs=True)
    ours, theirs = (queue.flush() for queue in queues)
    assert ours == theirs == [_begin("page"), _finish(ForwardMsg.FINISHED_EARLY_FOR_RERUN)]


def test_element_of_one_run_that_is_written_twice_is_sent_once() -> None:
    queue = CompleteMessageQueue()
    for text in ("first", "second"):
        queue.enqueue(_element(0, text))
    assert queue.flush() == [_element(0, "second")]


def test_sessions_of_the_app_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_session, "ForwardMsgQueue", ForwardMsgQueue)
    send_all_messages()
    assert vars(app_session)["ForwardMsgQueue"] is CompleteMessageQueue
