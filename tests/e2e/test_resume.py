"""A run whose controller is killed after a checkpoint goes on by the same command as if nothing had happened, to the
last bit; and until then it was, with the same seed, the same run."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from conftest import MEASURED, ROOT, SECONDS, Trained, command, quickstart, run

from benchmarks.reliability import END_SECONDS, PARTS, titled
from openrlhf_prefix.report.run_folder import RunFolder

CHECKPOINTS = Path("checkpoints") / "_actor"


@pytest.fixture(scope="module")
def killed(embedded, tmp_path_factory) -> tuple[Path, list]:
    """Folder and command of a run whose controller was killed when its second checkpoint, of step 4, was complete."""
    folder = tmp_path_factory.mktemp("killed") / "run"
    flags = quickstart(folder, "--ckpt.save_steps", 2, *MEASURED, "--ckpt.load_enable")
    started = start(flags)
    try:
        wait_for(folder / CHECKPOINTS / "global_step4", started)
        below = psutil.Process(started.pid).children(recursive=True)
        (controller,) = [process for process in below if titled(process).startswith(PARTS["controller"])]
        controller.kill()
        output, _ = started.communicate(timeout=END_SECONDS)
    finally:
        if started.poll() is None:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait()
    assert started.returncode == 1, output.decode()
    return folder, flags


def start(flags: list) -> subprocess.Popen:
    return subprocess.Popen(
        command(*flags), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )


def wait_for(path: Path, process: subprocess.Popen) -> None:
    deadline = time.time() + SECONDS
    while not path.exists():
        assert process.poll() is None, process.stdout.read().decode()
        assert time.time() < deadline, f"{path} did not appear within {SECONDS} s"
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--data.max_samples", 64], "another dataset: 128 problems then, 64 now"),
        (["--actor.num_gpus_per_node", 2, "--vllm.num_engines", 2], "1 ranks with ZeRO-3, this run has 2 ranks"),
        (["--actor.adam.lr", 1e-5], "actor.adam.lr was 0.0002 and is 1e-05"),
    ],
)
def test_another_run_does_not_take_its_checkpoint(killed, flags, words):
    folder, same = killed
    before = sorted(path for path in folder.rglob("*"))
    refused = run(*same, *flags)
    assert refused.returncode == 2 and words in refused.stdout, refused.stdout
    assert sorted(path for path in folder.rglob("*")) == before


def test_the_same_seed_gives_the_same_run(killed, trained):
    """Metrics apart from times, held-out ones included, and all rollouts, to the last digit, up to the step before
    the kill; both took other checkpoints."""

    def lines(folder: Path, name: str) -> list[dict]:
        rows = [row for row in RunFolder(folder).read(name) if row["step"] <= 3]
        timed = ("timing/", "memory/", "checkpoint/", "sync/check_seconds")
        timeless = [{k: v for k, v in row.items() if not k.startswith(timed)} for row in rows]
        return [row for row in timeless if set(row) != {"step"}]  # a save has a line of its own

    assert lines(killed[0], "rollouts") == lines(trained.folder, "rollouts")
    assert lines(killed[0], "metrics") == lines(trained.folder, "metrics")
    assert [row["step"] for row in lines(killed[0], "metrics")] == [0, 1, 2, 3]
    assert len(lines(killed[0], "rollouts")) == 3 * 128


def test_with_its_newest_checkpoint_damaged_it_goes_on_from_the_one_before_to_the_same_end(killed, trained):
    folder, same = killed
    shard = next((folder / CHECKPOINTS / "global_step4").glob("*optim_states.pt"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    resumed = Trained(run(*same), folder)
    assert resumed.code == 0, resumed.output
    assert f"checkpoint passed over: global_step4: {shard.name} does not hold what was written" in resumed.output
    assert "resumed after step 2" in resumed.output
    assert [row["step"] for row in resumed.metrics()] == [1, 2, 3, 4, 5, 6, 7, 8]
    for after, uninterrupted in zip(resumed.metrics(), trained.metrics(), strict=True):
        timeless = {name for name in after if not name.startswith(("timing/", "memory/", "checkpoint/", "sync/"))}
        assert {name: after[name] for name in timeless} == {name: uninterrupted[name] for name in timeless}
    assert resumed.rollouts() == trained.rollouts()
    assert exported(resumed) == exported(trained)
    summary = RunFolder(folder).summary()
    assert summary["steps"] == 8 and summary["this_start"]["steps"] == 6
    assert summary["seconds"] > summary["this_start"]["seconds"] > 0
    assert f", of them 6 in {summary['this_start']['seconds']:.0f} s since this start" in resumed.output
    aside = folder / CHECKPOINTS / "passed_over_global_step4"
    assert f"kept as {aside}" in resumed.output and (aside / shard.name).read_bytes() == content
    assert sorted(path.name for path in (folder / CHECKPOINTS).glob("*global_step*")) == [
        "global_step4",
        "global_step6",
        "global_step8",
        "passed_over_global_step4",
    ]


def misleading(right: str) -> str:
    """The demonstration of a chain with 1 too much in its first step, and all else in order: 3-8=6, 6-7=9, .."""
    lines, value = [], int(right[0])
    for step in right.split("\n")[:-1]:
        symbol, number = step[1], int(step[2])
        made = {"+": value + number, "-": value - number, "*": value * number}[symbol] + (not lines)
        lines.append(f"{value}{symbol}{number}={made % 10}")
        value = made % 10
    return "\n".join([*lines, f"\\boxed{{{value}}}"])


@pytest.mark.long
def test_what_was_learnt_about_problems_goes_on_too(embedded, tmp_path):
    """One supervised step, then three visits of the same 16 problems, whose prefix lengths follow their rewards. Each
    has a misleading demonstration beside the right one, and trust in it falls."""
    folder, path = tmp_path / "run", tmp_path / "two.jsonl"
    rows = [json.loads(line) for line in (embedded / "task" / "train.jsonl").read_text().splitlines()[:16]]
    for row in rows:
        row["demonstrations"].append(misleading(row["demonstrations"][0]))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ["--hybrid.sft_steps", 1, "--prefix.controller", "adaptive", "--prefix.trust", 1]
    flags += ["--train.num_episodes", 4]
    flags += ["--data.prompt_dataset", path, "--eval.dataset", "", "--ckpt.save_steps", 1, "--ckpt.max_num", 9]
    same = ["--run.rollout_groups", -1, "--ckpt.load_enable"]
    whole = Trained(run(*quickstart(folder, *flags, *same)), folder)
    assert whole.code == 0, whole.output
    steps, rollouts = whole.metrics(), whole.rollouts()
    assert "sft/rows" in steps[0] and {row["step"] for row in rollouts} == {2, 3, 4}
    for step in (3, 4):
        shutil.rmtree(folder / CHECKPOINTS / f"global_step{step}")
    resumed = Trained(run(*quickstart(folder, *flags, *same)), folder)
    assert resumed.code == 0 and "resumed after step 2" in resumed.output, resumed.output
    assert resumed.rollouts() == rollouts
    assert [row["prefix/ratio"] for row in resumed.metrics()[1:]] == [row["prefix/ratio"] for row in steps[1:]]
    trust = [row["prefix/trust"] for row in steps[1:]]
    assert [row["prefix/trust"] for row in resumed.metrics()[1:]] == trust and 0 < min(trust) <= max(trust) < 1


def exported(finished: Trained) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (finished.folder / "export").iterdir()}


def test_a_checkpoint_is_exported_without_a_cluster_and_refused_as_a_model(trained, tmp_path):
    checkpoint = trained.folder / CHECKPOINTS / "global_step8"
    made = run("export", checkpoint, tmp_path / "out")
    assert made.returncode == 0, made.stdout
    files = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert files == exported(trained)
    refused = run(*quickstart(tmp_path / "run", "--actor.model_name_or_path", checkpoint))
    assert refused.returncode == 2 and "is a resumable checkpoint, not a model" in refused.stdout


def test_sigterm_saves_the_last_finished_step(embedded, tmp_path):
    folder = tmp_path / "run"
    started = start(quickstart(folder, "--ckpt.load_enable", "--run.eval_at_start", "false", "--ckpt.save_steps", -1))
    wait_for(folder / "rollouts.jsonl", started)  # written at the end of the first step
    started.send_signal(signal.SIGTERM)
    output, _ = started.communicate(timeout=SECONDS)
    assert started.returncode == 75, output.decode()
    last = max(row["step"] for row in Trained(subprocess.CompletedProcess([], 75, ""), folder).metrics())
    assert f"stopped: SIGTERM arrived; step {last} is saved" in output.decode()
    assert [path.name for path in (folder / CHECKPOINTS).glob("*global_step*")] == [f"global_step{last}"]


def test_a_resume_needs_to_know_where(embedded):
    refused = run("train", "--config", "configs/quickstart.yaml", "--ckpt.load_enable")
    assert refused.returncode == 2 and "give the --run.dir" in refused.stdout


def ctrl_c(process: subprocess.Popen, times: int = 1) -> tuple[str, float]:
    """As a terminal sends it, to the whole process group. What the command printed, and the seconds until its end."""
    pressed = time.time()
    for _ in range(times):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(1.0)
    output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 130, output.decode()
    assert "Traceback" not in output.decode() and "Error" not in output.decode(), output.decode()
    return output.decode(), time.time() - pressed


def test_ctrl_c_saves_the_last_finished_step(embedded, tmp_path):
    folder = tmp_path / "run"
    started = start(quickstart(folder, "--run.eval_at_start", "false", "--ckpt.save_steps", -1))
    wait_for(folder / "rollouts.jsonl", started)
    output, _ = ctrl_c(started)
    last = max(row["step"] for row in RunFolder(folder).read("metrics"))
    assert (folder / CHECKPOINTS / f"global_step{last}" / "manifest.json").exists()
    assert output.splitlines()[-1] == f"openrlhf-prefix: stopped: Ctrl-C arrived; step {last} is saved"


@pytest.mark.parametrize("there", ["", "config.yaml"])
def test_ctrl_c_ends_a_start_in_a_line(embedded, tmp_path, there):
    """While the command line is read, and while Ray, engines and trainers start."""
    started = start(quickstart(tmp_path / "run"))
    wait_for(tmp_path / "run" / there if there else Path(f"/proc/{started.pid}"), started)
    time.sleep(4.0 if there else 1.0)  # a whole start takes more than ten seconds
    output, seconds = ctrl_c(started)
    assert output.splitlines()[-1].startswith("openrlhf-prefix: ") and seconds < 60


@pytest.mark.long
def test_a_second_ctrl_c_ends_at_once_and_leaves_nothing_behind(embedded, tmp_path):
    started = start(quickstart(tmp_path / "run", "--run.eval_at_start", "false"))
    wait_for(tmp_path / "run" / "rollouts.jsonl", started)
    below = psutil.Process(started.pid).children(recursive=True)
    output, seconds = ctrl_c(started, times=2)
    assert seconds < 20 and "ended at once" in output
    _, alive = psutil.wait_procs(below, timeout=END_SECONDS)
    assert not alive
