"""The page: assets/ and the data in one HTML file that needs no network.

The data stand in a script element of type application/json, which a browser does not run, with every `<`, `>` and `&`
and everything beyond ASCII escaped: no text of a rollout can end the element, begin a comment or a tag, or be invalid
UTF-8. The page's own script puts texts in as text alone, and a Content-Security-Policy lets no other script run.
"""

import base64
import hashlib
import html
import json
import os
from pathlib import Path
from typing import Any

ASSETS = Path(__file__).parent / "assets"
STYLES = ("uplot/uPlot.min.css", "page.css")
SCRIPTS = ("uplot/uPlot.min.js", "text.js", "charts.js", "samples.js", "page.js")


def page(data: dict[str, Any], live: float = 0.0) -> str:
    """The HTML of payload.payload(); with `live` it asks its server for new data every so many seconds."""
    style = "\n".join(map(_asset, STYLES))
    script = "\n".join([f"/*{_asset('uplot/LICENSE')}*/", *map(_asset, SCRIPTS)])
    title = ", ".join(run["name"] for run in data["runs"])
    parts = {
        "TITLE": html.escape(title),
        "POLICY": f"default-src 'none'; img-src data:; connect-src 'self'; style-src {_hash(style)}; "
        f"script-src {_hash(script)}",
        "LIVE": f"{live:g}",
        "STYLE": style,
        "SCRIPT": script,
        "DATA": as_json(data),
    }
    pieces = _asset("page.html").split("@@")  # @@NAME@@: never searched for in what was put in
    return "".join(parts[piece] if number % 2 else piece for number, piece in enumerate(pieces))


def as_json(data: dict[str, Any]) -> str:
    r"""JSON that may stand in any place of an HTML file.

    Example: {"a": "</script>"} gives {"a":"\u003c/script\u003e"}
    """
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def write(text: str, path: Path) -> None:
    """At once: whoever opens the page while it is written sees the one before."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        new.write_text(text, encoding="utf-8")
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
