"""Messages of a session that were not sent yet when a fragment of its page runs again.

Streamlit then drops those of the fragment itself, but still sends that the run of the page has finished. On a busy
server, or where a timer runs the fragment again right after its page, the browser gets a page without the fragment: it
removes the earlier one, and all that follows moves by one place. The fragment then overwrites another part of the page,
or the page ends with an error ("Bad delta path index", "Cannot set a node at a delta path"). Here all messages are
sent, in the order in which they were written, as by a server that is fast.
"""

from __future__ import annotations

from streamlit.runtime import app_session
from streamlit.runtime.forward_msg_queue import ForwardMsgQueue


class CompleteMessageQueue(ForwardMsgQueue):
    """A queue that drops nothing when a fragment begins to run."""

    def clear(self, retain_lifecycle_msgs: bool = False, fragment_ids_this_run: list[str] | None = None) -> None:
        """Remove messages that were not sent, as the base class does; none where fragments begin to run.

        Messages of a run of the whole page are still dropped when the next one begins, which writes all of them again.
        """
        if fragment_ids_this_run is None:
            super().clear(retain_lifecycle_msgs)
        else:
            self._delta_index_map = {}  # a message that follows replaces none from before the run


def send_all_messages() -> None:
    """Have all sessions use :class:`CompleteMessageQueue`; called before the first one."""
    app_session.ForwardMsgQueue = CompleteMessageQueue  # type: ignore[attr-defined]
