"""The query parameters of the address: ``st.query_params``, but safe from requests that crossed a change on their way.

A browser sends its address with every request, also with those of timers. A request that it sent before it heard of a
change by the page (a row was clicked, and a timer fired before the answer) has the parameters from before the change;
Streamlit takes them for new ones, and the click would be lost. Here a query that the page has replaced counts as
replaced until the browser has sent the new one, has moved through its history, or a link of the page leads to it (which
``ui/server/address.js`` marks as history).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from urllib.parse import parse_qs

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

_CHANGE = "change_of_query"  # session key


@dataclass(frozen=True)
class _Change:
    """Queries that the page has replaced, and that the browser may still send.

    Attributes
    ----------
    page : str. Hash of the page.
    replaced : tuple of str.
    latest : str. The query that has replaced them; this very object is the query of the run, and of reruns by the page.
    """

    page: str
    replaced: tuple[str, ...]
    latest: str


class QueryParams(MutableMapping[str, str]):
    """The query parameters of the session that runs: those of ``st.query_params``, also where a request came late."""

    def __getitem__(self, name: str) -> str:
        _recognise_late_request()
        return st.query_params[name]

    def __iter__(self) -> Iterator[str]:
        _recognise_late_request()
        return iter(st.query_params)

    def __len__(self) -> int:
        _recognise_late_request()
        return len(st.query_params)

    def __setitem__(self, name: str, value: str) -> None:
        if self.get(name) == value:
            return
        before = _query()
        st.query_params[name] = value
        _note_change(before)

    def __delitem__(self, name: str) -> None:
        _recognise_late_request()
        before = _query()
        del st.query_params[name]
        _note_change(before)

    def replace(self, values: Mapping[str, str]) -> None:
        """Set these parameters, and remove all others."""
        _recognise_late_request()
        before = _query()
        st.query_params.from_dict(values)
        _note_change(before)

    def send(self) -> None:
        """Send all of them to the browser, also those that have not changed."""
        _recognise_late_request()
        before = _query()
        st.query_params.update({})
        _note_change(before)


query_params = QueryParams()


def _query() -> str:
    context = get_script_run_ctx(suppress_warning=True)
    return context.query_string if context else ""


def _recognise_late_request() -> None:
    """Restore the parameters where the query of this run is one that the page has replaced before."""
    context = get_script_run_ctx(suppress_warning=True)
    change: _Change | None = st.session_state.get(_CHANGE) if context else None
    if context is None or change is None or context.query_string is change.latest:
        return
    sent = parse_qs(context.query_string, keep_blank_values=True)
    is_late = any(sent == parse_qs(query, keep_blank_values=True) for query in change.replaced)
    if is_late and context.page_script_hash == change.page and not context.is_history_navigation:
        st.query_params.from_dict(parse_qs(change.latest, keep_blank_values=True))
        st.session_state[_CHANGE] = _Change(change.page, change.replaced, context.query_string)
    else:  # the browser has the new one, or another one
        del st.session_state[_CHANGE]


def _note_change(before: str) -> None:
    context = get_script_run_ctx(suppress_warning=True)
    if context is None:  # a page is imported, not run
        return
    change: _Change | None = st.session_state.get(_CHANGE)
    earlier = change.replaced if change is not None and change.page == context.page_script_hash else ()
    latest = context.query_string
    replaced = tuple(query for query in dict.fromkeys((*earlier, before)) if query != latest)
    st.session_state[_CHANGE] = _Change(context.page_script_hash, replaced, latest)
