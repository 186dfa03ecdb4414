"""Answers of the access check to requests that it does not let through: pages for people, text for scripts."""

from __future__ import annotations

import html
from dataclasses import dataclass

LOGIN = "login"  # last part of the path to which the token is sent


@dataclass(frozen=True)
class Refusal:
    """Why a request is refused.

    Attributes
    ----------
    status : int. HTTP status.
    title, text : str. What happened and what to do, as plain text.
    """

    status: int
    title: str
    text: str

    def body(self, as_page: bool) -> bytes:
        """A page, or plain text."""
        if not as_page:
            return f"{self.title}. {self.text}\n".encode()
        return _page(self.title, f"<p>{html.escape(self.text)}</p>")


ONLY_LOCAL = Refusal(
    403,
    "Available on this machine only",
    "This server takes requests from its own machine (localhost). To use it from another machine, forward the port "
    "through SSH - ssh -L 8501:localhost:8501 HOST, then open http://localhost:8501 - or start it with "
    "--server.address 0.0.0.0, which requires a token. For a reverse proxy, start it with SEGMENTARIUM_ORIGINS set to "
    "the address that the browser shows, which requires the token too (docs/remote.md).",
)


def other_origin(origin: str, host: str) -> Refusal:
    """The refusal of a page that was loaded from another origin than the request was sent to."""
    return Refusal(
        403,
        "Request refused",
        f"The page was opened at {origin}, but the request was sent to {host or 'an unnamed host'}. Behind a proxy "
        f"that changes the Host header, start the server with SEGMENTARIUM_ORIGINS={origin}, or let the proxy pass the "
        "Host header on (docs/remote.md). Pages of other sites are refused.",
    )


TOKEN_MISSING = Refusal(401, "Sign in again", "This server requires its owner token. Load the page again to enter it.")


def login_page(target: str, message: str) -> bytes:
    """The page that asks for the token.

    Parameters
    ----------
    target : str. Where to go afterwards, relative to this page.
    message : str. What was wrong with the last attempt; empty if there was none.
    """
    bad = f'<p class="bad" role="alert">{html.escape(message)}</p>' if message else ""
    return _page(
        "Segmentarium",
        "<p>This server requires its owner token, which was printed when the server was started.</p>"
        f'{bad}<form method="post" action="{LOGIN}">'
        f'<input type="hidden" name="next" value="{html.escape(target)}">'
        '<input name="token" type="password" placeholder="token" aria-label="Owner token" autofocus required '
        'autocomplete="current-password"><button>Open</button></form>',
    )


_STYLE = """
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;display:grid;place-items:center;min-height:90vh;margin:0}
main{max-width:30rem;padding:1.5rem}h1{font-size:1.25rem;margin:0 0 .5rem}p{margin:.5rem 0}
form{display:flex;gap:.5rem;margin-top:1rem}input{flex:1;min-width:0}input,button{font:inherit;padding:.5rem .7rem;
border-radius:6px;border:1px solid #767b86}button{background:#5b4bc4;color:#fff;border:0}
:focus-visible{outline:2px solid #7263e8;outline-offset:2px}.bad{color:light-dark(#b3261e,#ff8a80)}
"""


def _page(title: str, content: str) -> bytes:
    name = "Segmentarium" if title == "Segmentarium" else f"{html.escape(title)} — Segmentarium"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{name}</title><style>{_STYLE}</style><main><h1>{html.escape(title)}</h1>{content}</main></html>"
    ).encode()
