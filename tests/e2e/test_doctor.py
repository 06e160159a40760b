"""`doctor` on the real stack: everything in order, and an engine that silently keeps an old tensor."""

import subprocess

from conftest import ROOT, SECONDS, command, run
from faults import STALE_WEIGHT


def test_everything_is_in_order(embedded) -> None:
    done = run("doctor", "--config", "configs/quickstart.yaml")
    assert done.returncode == 0, done.stdout
    found = {line[:24].strip(): line[24:] for line in done.stdout.splitlines() if line.startswith(CHECKS)}
    assert set(found) == set(CHECKS)
    assert all(found[check].startswith("ok") for check in CHECKS if check != "attention"), done.stdout
    assert found["attention"].startswith("not checked")
    assert "10^9 terms: timeout" in found["math-verify"]
    assert "51 tensors equal in 1 engine(s)" in found["weight sync"]


CHECKS = ("versions", "math-verify", "devices", "attention", "accumulation", "weight sync", "log-probs")


def test_a_tensor_that_the_engine_keeps_is_named(embedded, tmp_path) -> None:
    env = STALE_WEIGHT.plant(tmp_path / "copy")
    (tmp_path / "copy" / ".cache").symlink_to(ROOT / ".cache")
    done = subprocess.run(
        command("doctor", "--config", "configs/quickstart.yaml"),
        cwd=tmp_path / "copy",
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 1, done.stdout
    assert "does not hold the trainer's weights" in done.stdout
    assert "model.layers.1.mlp.down_proj.weight" in done.stdout
