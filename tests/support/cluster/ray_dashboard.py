"""A stand-in for the dashboard of a Ray cluster: it answers as Ray 2.60 does, from what a test puts into it."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "a-secret-token-of-the-tests"


class RayDashboard:
    """A server on this machine.

    Attributes
    ----------
    jobs : dict. Details of each job by its id, as Ray reports them.
    submitted : list of dict. What was asked for, job by job.
    asked : list of str. Method and path of each request.
    nodes : list of dict. Resources of each node.
    refuse : tuple of int, str, or None. Status and text of all further answers.
    refuse_after : tuple of int, str, or None. Status and text of answers to submissions that it takes all the same.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.submitted: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.nodes: list[dict[str, Any]] = [{"CPU": 8.0, "GPU": 2.0, "memory": 64.0 * 1024**3}]
        self.refuse: tuple[int, str] | None = None
        self.refuse_after: tuple[int, str] | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._server.server_close()

    def set(self, job: str, status: str, **details: Any) -> None:
        """Set what is reported about a job."""
        self.jobs[job] = {**self.jobs.get(job, {}), "submission_id": job, "status": status, **details}

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, str]:
        """Status and text of the answer to a request."""
        self.asked.append(f"{method} {path}")
        if self.refuse is not None:
            return self.refuse
        if path == "/api/version":
            return 200, json.dumps({"ray_version": "2.60.0"})
        if path == "/nodes?view=summary":
            raylets = [
                {"state": "ALIVE", "nodeId": f"id{i}", "nodeManagerHostname": f"r{i}", "resourcesTotal": total}
                for i, total in enumerate(self.nodes)
            ]
            return 200, json.dumps({"data": {"summary": [*({"raylet": raylet} for raylet in raylets), {"raylet": {}}]}})
        if method == "POST" and path == "/api/jobs/":
            return self._submit(body)
        if path == "/api/jobs/":
            return 200, json.dumps(list(self.jobs.values()))
        job = path.removeprefix("/api/jobs/").removesuffix("/stop")
        if job not in self.jobs:
            return 404, f"Job {job} does not exist"
        return 200, json.dumps(self.jobs[job] if method == "GET" else {"stopped": True})

    def _submit(self, body: dict[str, Any]) -> tuple[int, str]:
        name = body["submission_id"]
        if name in self.jobs:
            return 500, f"Traceback:\nValueError: Job with submission_id {name} already exists. Please use ...\n.\n"
        self.submitted.append(body)
        self.set(name, "PENDING", metadata=body["metadata"], message="Job has not started yet.")
        return self.refuse_after or (200, json.dumps({"submission_id": name}))

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        dashboard = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
                given = self.headers.get("Authorization")
                if given is None:
                    status, text = 401, "Unauthorized: Missing authentication token"
                elif given != f"Bearer {TOKEN}":
                    status, text = 403, "Forbidden: Invalid authentication token"
                else:
                    status, text = dashboard.answer(self.command, self.path, body)
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", text)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        return Handler
