"""examples/quickstart.ipynb runs from its first cell to its last, and shows what it says it shows."""

import json
import subprocess
import sys

from conftest import ROOT, SECONDS

NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"
SHOWN = """
import json
print("SHOWN", json.dumps({
    "steps": list(run.metrics.index), "rows": len(samples), "report": folder.joinpath("report.html").exists(),
    "results": found["results"], "mistake": str(mistake_said),
}))
"""


def test_the_notebook_runs(embedded) -> None:
    """In an empty folder of its own; the last cell's mistake is the one of a folder that holds a run."""
    cells = [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells)  # of no machine
    source = "\n".join("".join(cell["source"]) for cell in cells).replace("print(mistake)", "mistake_said = mistake")
    done = subprocess.run(
        [sys.executable, "-c", source + SHOWN], cwd=NOTEBOOK.parent, capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr
    shown = json.loads(done.stdout.split("SHOWN ")[1])
    assert shown["steps"] == [0, 1, 2, 3, 4, 5, 6] and shown["report"]
    assert shown["rows"] == 4 * 8  # --run.rollout_groups
    assert [0 < scores["avg@4"] < 1 for scores in shown["results"].values()] == [True]  # one task
    assert "already holds a run" in shown["mistake"]
