"""A web server on this machine that serves one file with ranges, with the faults that a test sets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class ServedFile:
    """What is served, and what has been asked for.

    Attributes
    ----------
    content : bytes. The file.
    tag : str. Its entity tag; empty for none.
    cut_after : list of int. Bytes after which the next answers are cut off, one for each.
    ranges : bool. Whether ranges are answered.
    status, content_type : answer of every request.
    states_length : bool. Whether the size is stated.
    asked : list of str. The Range header of each request, empty without one.
    url : str. Address.
    """

    content: bytes
    tag: str = '"v1"'
    cut_after: list[int] = field(default_factory=list)
    ranges: bool = True
    status: int = 200
    content_type: str = "application/x-tar"
    states_length: bool = True
    asked: list[str] = field(default_factory=list)
    url: str = ""


@contextmanager
def serve(content: bytes, name: str = "Task99_Test.tar") -> Iterator[ServedFile]:
    """Serve a file while the block runs."""
    served = ServedFile(content)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            served.asked.append(wanted)
            if served.status != 200:
                self.send_error(served.status)
                return
            start = 0
            if wanted and served.ranges and self.headers.get("If-Range") == served.tag:
                start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start > len(served.content):
                self.send_error(416)
                return
            body = served.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Type", served.content_type)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(served.content) - 1}/{len(served.content)}")
            if served.tag:
                self.send_header("ETag", served.tag)
            if served.states_length:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            cut = served.cut_after.pop(0) if served.cut_after else len(body)
            self.wfile.write(body[:cut])
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Nothing is printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_port}/{name}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
