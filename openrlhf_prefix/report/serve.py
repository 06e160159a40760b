"""The live view: the page and its data from a small server that this machine alone reaches.

The page is made anew when a record of a run has changed, and at most every SECONDS. It answers no other host name than
127.0.0.1 and localhost, so that no web page that is open beside it can read the rollouts through a name of its own.
"""

import threading
import time
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from openrlhf_prefix.errors import UserError
from openrlhf_prefix.report.page import as_json, page
from openrlhf_prefix.report.payload import payload
from openrlhf_prefix.report.reading import read_runs

HOST, SECONDS = "127.0.0.1", 5.0
FILES = ("*.jsonl", "*.json", "config.yaml")


class View:
    """The newest data of some runs, shared by all requests."""

    def __init__(self, paths: Sequence[Path], budget: int) -> None:
        self.paths, self.budget, self.lock = list(paths), budget, threading.Lock()
        self.state, self.looked = self._state(), time.monotonic()
        self.data = payload(read_runs(self.paths), budget)

    def newest(self) -> dict:
        """Made anew where a file has changed; a folder that cannot be read just now leaves the last, with a note."""
        with self.lock:
            if time.monotonic() - self.looked >= SECONDS and (state := self._state()) != self.state:
                try:
                    self.data = payload(read_runs(self.paths), self.budget)
                except (UserError, OSError) as error:
                    self.data["runs"][0]["notes"] = [f"the view is not up to date: {error}"]
                self.state, self.looked = state, time.monotonic()
            return self.data

    def _state(self) -> list[tuple[str, int, int]]:
        files = sorted(file for path in self.paths for pattern in FILES for file in path.glob(pattern))
        return [(str(file), (stat := file.stat()).st_mtime_ns, stat.st_size) for file in files]


def server(view: View, port: int) -> ThreadingHTTPServer:
    """Not yet running. Raises UserError where the port is taken."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host = (self.headers.get("Host") or "").rpartition(":")[0]
            if host not in (HOST, "localhost"):
                self.send_error(HTTPStatus.FORBIDDEN, f"this view is at http://{HOST} alone")
            elif self.path == "/":
                self._answer("text/html", page(view.newest(), live=SECONDS))
            elif self.path == "/data.json":
                self._answer("application/json", as_json(view.newest()))
            else:
                self.send_error(HTTPStatus.NOT_FOUND)

        def _answer(self, kind: str, text: str) -> None:
            body = text.encode("utf-8")
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """A line for every look would bury the address."""

    try:
        return ThreadingHTTPServer((HOST, port), Handler)
    except OSError as error:
        raise UserError(f"port {port} of {HOST} cannot be used ({error.strerror}): give another --port") from None


def serve(paths: Sequence[Path], port: int, budget: int) -> None:
    """Until Ctrl-C."""
    running = server(View(paths, budget), port)
    print(f"live view: http://{HOST}:{running.server_address[1]}/ (Ctrl-C ends it)", flush=True)
    try:
        running.serve_forever()
    except KeyboardInterrupt:
        print("ended", flush=True)
    finally:
        running.server_close()
