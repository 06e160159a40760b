"""All that the page shows, as one JSON object."""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openrlhf_prefix.report.cautions import cautions
from openrlhf_prefix.report.curves import charts, derived
from openrlhf_prefix.report.reading import Run
from openrlhf_prefix.report.samples import BUDGET, samples
from openrlhf_prefix.report.scores import scores

# Where a run lies, and not what it does: it differs between any two.
PLACES = {
    "run.dir",
    "ckpt.path",
    "ckpt.output_dir",
    "logger.tensorboard_dir",
    "logger.wandb.run_name",
    "ckpt.load_enable",
}


def payload(runs: Sequence[Run], budget: int = BUDGET) -> dict[str, Any]:
    """{"made": time, "runs": [...], "charts": [...], "flags": rows that differ}."""
    return {
        "made": now(),
        "runs": [{**head(run), "samples": samples(run, budget // len(runs)), "notes": run.notes} for run in runs],
        "charts": charts(runs),
        "flags": differing(runs),
    }


def now() -> str:
    return f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M:%S} UTC"


def head(run: Run) -> dict[str, Any]:
    """What the run is, and where it stands."""
    flags, about, last = run.flags, run.about, run.last_step
    total = about.get("steps") or run.summary.get("steps")
    rows = [derived(row) for row in run.steps]
    return {
        "name": run.name,
        "method": _shown(flags.get("hybrid.preset")),
        "facts": [[name, value] for name, value in _facts(run) if value],
        "versions": _shown(about.get("versions")),
        "step": last,
        "total": total if isinstance(total, int) and total >= last else None,
        "finished": isinstance(run.summary.get("steps"), int) and run.summary["steps"] >= last,
        "seconds": round(sum(row.get("timing/step_total", 0.0) for row in rows), 1),
        "tokens": sum(row.get("rollout/tokens_generated", 0.0) for row in rows),
        "written": _written(run.path),
        "scores": scores(run),
        "cautions": cautions(run),
    }


def _facts(run: Run) -> list[tuple[str, str]]:
    flags, about = run.flags, run.about
    model, data, held_out = (
        _end(flags.get(name)) for name in ("actor.model_name_or_path", "data.prompt_dataset", "eval.dataset")
    )
    counts = ((about.get("problems"), "problems"), (about.get("held_out"), "held out"))
    batch, size = flags.get("rollout.batch_size"), flags.get("rollout.n_samples_per_prompt")
    counted = [f"{count:,} {what}" for count, what in counts if isinstance(count, int)]
    data = " and ".join(dict.fromkeys(name for name in (data, held_out) if name))
    return [
        ("Model", model),
        ("Data", " ".join(filter(None, [data, f"({', '.join(counted)})" if counted else ""]))),
        ("Hardware", _shown(about.get("hardware"))),
        ("A step", f"{batch} problems x {size} rows" if batch and size else ""),
        ("Learning rate", _shown(flags.get("actor.adam.lr"))),
        ("Folder", str(run.path.absolute())),
    ]


def _end(path: Any) -> str:
    """The last two parts of a path or a name on the hub; of several, separated by commas, of each."""
    return ", ".join("/".join(Path(part.strip()).parts[-2:]) for part in _shown(path).split(",") if part.strip())


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _written(path: Path) -> str:
    """When a record of the run last grew."""
    times = [file.stat().st_mtime for file in path.glob("*.jsonl")]
    if not times:
        return ""
    return f"{datetime.datetime.fromtimestamp(max(times), datetime.timezone.utc):%Y-%m-%d %H:%M} UTC"


def differing(runs: Sequence[Run]) -> list[list[str]]:
    """[flag, its value in each run] of the flags that are not the same in all, without the folders' own names.

    Example: two runs with hybrid.preset rft and prefix_rft: [["hybrid.preset", "rft", "prefix_rft"]]; a flag that a
    run does not have is "-".
    """
    if len(runs) < 2:
        return []
    names = sorted({name for run in runs for name in run.flags} - PLACES)
    rows = [[name, *(_shown(run.flags[name]) if name in run.flags else "-" for run in runs)] for name in names]
    return [row for row in rows if len(set(row[1:])) > 1]
