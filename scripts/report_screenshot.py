"""A picture of a report, and Chromium for the tests of the page: python scripts/report_screenshot.py PAGE.html OUT.png

Speaks the DevTools protocol with a Chromium that is installed here (Debian: apt-get install chromium).
"""

import argparse
import base64
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
START_SECONDS, ANSWER_SECONDS = 60.0, 60.0


def find_chromium() -> str | None:
    """Its path; the variable CHROMIUM names another one."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One tab without a window: `with Browser(path, 1400, 900) as tab`. `errors` are those of its console."""

    def __init__(self, program: str, width: int = 1400, height: int = 900, dark: bool = False) -> None:
        self.width, self.height, self.dark = width, height, dark
        self.profile = tempfile.mkdtemp(prefix="chromium-")
        self.numbers, self.errors, self.open_sockets = itertools.count(1), [], ExitStack()
        self.loaded = 0  # pages
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        options += ["--remote-debugging-port=0", f"--user-data-dir={self.profile}", "--disable-background-networking"]
        self.process = subprocess.Popen(
            [program, *options, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def __enter__(self) -> "Browser":
        try:
            self.socket = self.open_sockets.enter_context(connect(self._tab(), max_size=None))
        except BaseException:
            self._end()
            raise
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.resize(self.width, self.height)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if self.dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        return self

    def __exit__(self, *_: object) -> None:
        self.call("Browser.close")  # ends its child processes, too, before their folder goes
        self.open_sockets.close()
        self.process.wait(timeout=20)
        self._end()

    def _tab(self) -> str:
        """Address of the first tab, once Chromium has written its port down."""
        file, end = Path(self.profile) / "DevToolsActivePort", time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if file.exists() and (lines := file.read_text().splitlines()):
                with urllib.request.urlopen(f"http://127.0.0.1:{lines[0]}/json") as answer:
                    pages = [one for one in json.load(answer) if one["type"] == "page"]
                if pages:
                    return pages[0]["webSocketDebuggerUrl"]
            time.sleep(0.05)
        raise TimeoutError(f"{self.process.args[0]} did not start within {START_SECONDS:g} s")

    def _end(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=20)
        shutil.rmtree(self.profile, ignore_errors=True)

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        """One command of the protocol, and its answer. RuntimeError where it is refused."""
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": arguments}))
        while True:
            message = json.loads(self.socket.recv(timeout=ANSWER_SECONDS))
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return message["result"]
            self._note(message)

    def _note(self, event: dict[str, Any]) -> None:
        details = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            thrown = details["exceptionDetails"]
            self.errors.append(thrown.get("exception", {}).get("description") or thrown["text"])
        elif event.get("method") == "Page.loadEventFired":
            self.loaded += 1
        elif event.get("method") == "Log.entryAdded" and details["entry"]["level"] == "error":
            self.errors.append(details["entry"]["text"])

    def open(self, address: str) -> float:
        """Seconds until the page is drawn: two frames after its scripts ran."""
        started, before = time.monotonic(), self.loaded
        self.call("Page.navigate", url=address)
        while self.loaded == before:
            if time.monotonic() - started > ANSWER_SECONDS:
                raise TimeoutError(f"{address} did not load within {ANSWER_SECONDS:g} s")
            self.run("1")
            time.sleep(0.02)
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")
        return time.monotonic() - started

    def run(self, script: str) -> Any:
        """Value of an expression; a promise's once it is there."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description") or details["text"])
        return answer["result"].get("value")

    def point(self, x: float, y: float) -> None:
        """Moves the mouse there."""
        for place in (x - 1, x):
            self.call("Input.dispatchMouseEvent", type="mouseMoved", x=place, y=y)

    def resize(self, width: int, height: int) -> None:
        settings = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **settings)

    def picture(self) -> bytes:
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path, help="report.html, or the folder of a run that has one")
    parser.add_argument("output", type=Path)
    parser.add_argument("--width", type=int, default=1400)
    parser.add_argument("--height", type=int, default=1500)
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--at", default="", help="CSS selector of what to scroll to")
    parser.add_argument("--hover", default="", help="title of a curve to point at")
    options = parser.parse_args()
    program = find_chromium()
    if program is None:
        raise SystemExit("no Chromium here: apt-get install chromium, or name one in CHROMIUM")
    page = options.page / "report.html" if options.page.is_dir() else options.page
    with Browser(program, options.width, options.height, options.dark) as tab:
        tab.call("Emulation.setScrollbarsHidden", hidden=True)
        tab.open(page.absolute().as_uri())
        if options.at:
            tab.run(f"document.querySelector({json.dumps(options.at)}).scrollIntoView({{behavior: 'instant'}})")
        time.sleep(0.5)
        if options.hover:
            point_at(tab, options.hover)
        time.sleep(0.5)
        options.output.write_bytes(tab.picture())
        for error in tab.errors:
            print(f"the page has a fault: {error}")
    print(f"{options.output}: {options.output.stat().st_size / 1e3:.0f} kB")


def point_at(tab: Browser, title: str, part: float = 0.6) -> None:
    """The mouse over a curve's picture, `part` of its width from the left."""
    query = json.dumps(f'[data-title="{title}"] .u-over')
    x, y, width, height = tab.run(
        f"(() => {{ const e = document.querySelector({query});"
        "e.scrollIntoView({block: 'nearest', behavior: 'instant'});"
        "const r = e.getBoundingClientRect(); return [r.x, r.y, r.width, r.height]; })()"
    )
    tab.point(x + part * width, y + height / 2)


if __name__ == "__main__":
    main()
