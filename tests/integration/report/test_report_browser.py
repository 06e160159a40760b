"""The page in a real Chromium: curves, hover, choosing a sample, hostile text, long runs, both schemes, a phone.

Where no Chromium is installed, as on a bare machine of continuous integration, they are skipped with that reason; what
can be known without a browser (escaping, policy, thinning, choice of samples) is in tests/unit/report.
"""

import importlib.util
import json
import random
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("websockets", reason="no websockets to speak to Chromium with")

from openrlhf_prefix.report import command
from openrlhf_prefix.report.payload import payload
from openrlhf_prefix.report.reading import read_runs
from openrlhf_prefix.report.run_folder import RunFolder
from openrlhf_prefix.report.samples import BUDGET
from openrlhf_prefix.report.serve import View, server

SCRIPT = Path(__file__).parents[3] / "scripts" / "report_screenshot.py"
SPEC = importlib.util.spec_from_file_location("report_screenshot", SCRIPT)
screenshot = sys.modules["report_screenshot"] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(screenshot)
CHROMIUM = screenshot.find_chromium()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed here (apt-get install chromium)")

HOSTILE = (
    "</script><img src=x onerror='window.hit=1'><script>window.hit=1</script><!-- \u202eevil\u0007 \u2028 \U0001f600"
)
OPENS = 5.0  # seconds


def step(number: int, generator: random.Random) -> dict[str, Any]:
    names = (
        "reward",
        "reward/plain",
        "reward/prefixed",
        "prefix/low",
        "prefix/ratio",
        "rollout/entropy",
        "memory/learner",
    )
    phases = ("generation", "make_experience", "ppo_train", "broadcast")
    verdicts = ("equal", "different", "no_answer", "unparseable", "timeout")
    return {
        "step": number,
        **{name: generator.random() for name in names},
        **{f"timing/{phase}": generator.random() for phase in phases},
        **{f"verifier/{verdict}": float(generator.randrange(100)) for verdict in verdicts},
        "prefix/high": 0.95,
        "prefix/rows": 16.0,
        "timing/step_total": 2.0,
        "rollout/tokens_generated": 4096.0,
        "actor_grad_norm": generator.random(),
    }


def rows(number: int, groups: int, generator: random.Random, text: str = "so \\boxed{4}", size: int = 8) -> list[dict]:
    made = []
    for group in range(groups):
        for slot in range(size):
            prefix = "2+2" if slot == size - 1 else ""
            whole = prefix + text
            shared = {
                "step": number,
                "group": group,
                "slot": slot,
                "problem": f"problem-{number}-{group}",
                "answer": "4",
            }
            tokens = {
                "token_lengths": [1] * len(whole),
                "log_probs": [-0.25] * len(whole),
                "kept": [1] if prefix else [],
            }
            told = {"prompt": "what is 2+2?", "prefix": prefix, "continuation": text, "prefix_length": len(prefix)}
            luck = {"reward": float(generator.random() < 0.5), "advantage": generator.random() - 0.5}
            made.append({**shared, **told, **tokens, **luck, "prefix_advantage": 0.1, "verdict": "different"})
    return made


def folder(path: Path, steps: int = 12, text: str = "so \\boxed{4}", groups: int = 2) -> Path:
    generator = random.Random(0)
    run = RunFolder(path)
    path.mkdir(parents=True)
    run.write_config("hybrid.preset: prefix_rft\nactor.model_name_or_path: a/model\nactor.adam.lr: 0.001\n")
    run.write_about({"steps": 2 * steps, "problems": 320, "held_out": 2, "hardware": "1 node, 8 x H200"})
    run.append("metrics", [step(number, generator) for number in range(1, steps + 1)])
    run.append("rollouts", [row for number in range(1, steps + 1) for row in rows(number, groups, generator, text)])
    counts = {"problems": ["a", "b"], "judged": [4, 4]}
    judged = [{"step": at, "source": "sums", "correct": [1, at % 4], **counts} for at in range(0, steps, 4)]
    run.append("evaluations", judged)
    return path


@pytest.fixture(scope="module")
def tab() -> Iterator[Any]:
    with screenshot.Browser(CHROMIUM, 1400, 1000) as browser:
        yield browser


def opened(tab: Any, *folders: Path) -> float:
    """Seconds that the page of these runs took to open; the console says nothing."""
    page = folders[0].parent / "page.html"
    command.main([*map(str, folders), "--output", str(page)])
    tab.errors.clear()
    seconds = tab.open(page.as_uri())
    assert tab.errors == []
    return seconds


def text(tab: Any, selector: str) -> str:
    return tab.run(f"document.querySelector({json.dumps(selector)}).innerText")


def texts(tab: Any, selector: str) -> list[str]:
    return tab.run(f"[...document.querySelectorAll({json.dumps(selector)})].map(e => e.textContent)")


def enter(tab: Any, selector: str, name: str, value: object, event: str) -> None:
    """Sets a field as a user does."""
    tab.run(
        f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.{name} = {json.dumps(value)};"
        f"e.dispatchEvent(new Event({json.dumps(event)})); }})()"
    )


def click(tab: Any, selector: str, place: int = 0) -> None:
    tab.run(f"document.querySelectorAll({json.dumps(selector)})[{place}].click()")


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("usual") / "run")


def test_the_page_says_what_the_run_is_and_draws_its_curves(tab: Any, usual: Path) -> None:
    """A curve is more than its axes: pixels of its colour are in the canvas."""
    opened(tab, usual)
    head = text(tab, "#head")
    assert all(
        words in head for words in ("prefix_rft", "step 12 of 24", "a/model", "1 node, 8 x H200", "320 problems")
    )
    scores = text(tab, "#scores")
    assert "sums pass@1" in scores and "95 % intervals over 2 problems, 4 samples of each" in scores
    titles = tab.run("[...document.querySelectorAll('.chart')].map(e => e.dataset.title)")
    assert titles[:4] == ["Held-out score", "Reward", "Prefix window", "Entropy"]
    assert {"Seconds of a step", "What the verifier said", "Speed", "Memory"} <= set(titles)
    blue = tab.run(
        "(() => { const c = document.querySelector('[data-title=Reward] canvas'); const d = c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data; let n = 0; for (let i = 0; i < d.length; i += 4)"
        "if (d[i] === 0 && d[i + 1] === 0x72 && d[i + 2] === 0xb2 && d[i + 3] === 255) n += 1; return n; })()"
    )
    assert blue > 100


def test_hover_shows_the_values_of_a_step(tab: Any, usual: Path) -> None:
    """Six tenths of the way from step 1 to step 12 is step 7.6: the nearest is step 8."""
    opened(tab, usual)
    time.sleep(0.3)
    screenshot.point_at(tab, "Reward", 0.6)
    time.sleep(0.2)
    tip = text(tab, "[data-title=Reward] .tip")
    value = RunFolder(usual).read("metrics")[7]["reward/plain"]
    assert tip.startswith("step 8") and f"plain {round(value, 3):g}" in tip.replace("\n", " ")
    assert tab.run("[...document.querySelectorAll('.tip')].filter(e => !e.hidden).length") == 1


def test_a_curve_is_hidden_and_shown_again(tab: Any, usual: Path) -> None:
    opened(tab, usual)
    time.sleep(0.3)
    pressed = "document.querySelector('[data-title=Reward] .legend button').getAttribute('aria-pressed')"
    click(tab, "[data-title=Reward] .legend button")
    assert tab.run(pressed) == "false"
    click(tab, "[data-title=Reward] .legend button")
    assert tab.run(pressed) == "true"


def test_a_sample_is_chosen_by_step_problem_and_row(tab: Any, usual: Path) -> None:
    opened(tab, usual)
    enter(tab, "#step", "value", 4, "change")
    enter(tab, "#problem", "selectedIndex", 1, "change")
    click(tab, "#list .row", 7)
    assert "step 5, problem-5-1, row 7" in text(tab, "#sample h3")
    parts = tab.run(
        "[...document.querySelectorAll('#sample .text .token')].map(e => [e.className.split(' ')[0], e.textContent])"
    )
    assert "".join(piece for kind, piece in parts if kind == "prefix") == "2+2"
    assert "".join(piece for kind, piece in parts if kind == "continuation") == "so \\boxed{4}"
    assert texts(tab, ".text .kept") == ["+"]
    assert len(texts(tab, "#group .row")) == 8 and "problem-5-1 at step 5" in text(tab, "#group h3")
    click(tab, "#group .row", 2)
    assert "step 5, problem-5-1, row 2" in text(tab, "#sample h3")
    click(tab, "#group .row", 7)
    facts = text(tab, "#sample dl").replace("\n", " ")
    assert "EXPECTED 4" in facts and "VERIFIER different" in facts and "TOKENS 15 (3 given)" in facts


def test_a_token_tells_its_log_prob(tab: Any, usual: Path) -> None:
    """exp(-0.25) = 77.9 %."""
    opened(tab, usual)
    tab.run("document.querySelector('.token').scrollIntoView({behavior: 'instant'})")
    x, y = tab.run(
        "(() => { const r = document.querySelector('.token').getBoundingClientRect(); return [r.x + 2, r.y + 5]; })()"
    )
    tab.point(x, y)
    time.sleep(0.2)
    assert text(tab, "#token").endswith("log-prob -0.250 (77.9 %)")


def test_search_and_the_telling_rows(tab: Any, usual: Path) -> None:
    opened(tab, usual)
    titles = texts(tab, "#list h3")
    assert titles == ["The problem's rows", "The luckiest", "The worst"]
    enter(tab, "input[type=search]", "value", "PROBLEM-7-1", "input")
    assert text(tab, "#list h3").startswith("8 rows with")
    click(tab, "#list .row", 3)
    assert "step 7, problem-7-1, row 3" in text(tab, "#sample h3")


def test_hostile_text_stays_text(tab: Any, tmp_path: Path) -> None:
    """In every field; a megabyte of it in one answer, which is shown without its middle."""
    path = folder(tmp_path / "<img src=x onerror=window.hit=1>", 2, HOSTILE)
    hostile = {"problem": HOSTILE, "answer": HOSTILE, "prompt": HOSTILE, "prefix": HOSTILE, "verdict": HOSTILE}
    long = {"continuation": HOSTILE * 15_000, "reward": 1.0, "advantage": 0.9}
    RunFolder(path).append("rollouts", [{"step": 3, "group": 0, "slot": 0, **hostile, **long}])
    RunFolder(path).append("metrics", [{"step": 3, HOSTILE: 1.0, "reward": 0.5}])
    (path / "config.yaml").write_text(json.dumps({"hybrid.preset": HOSTILE, "actor.model_name_or_path": HOSTILE}))
    opened(tab, path)
    lucky = texts(tab, "#list h3").index("The luckiest")
    assert lucky == 1
    enter(tab, "#step", "value", 2, "change")
    assert "characters are left out here" in text(tab, "#sample .text")
    assert tab.run("window.hit") is None
    assert tab.run("document.querySelectorAll('img, body script:not(#data)').length") == 1  # the page's own
    shown = tab.run("document.querySelector('#sample .text').textContent")
    assert "</script><img src=x" in shown and "\u202e" not in shown and "U+202E" in shown
    tab.run("document.querySelector('details.more').open = true; 1")
    time.sleep(0.3)
    assert tab.errors == [] and tab.run("window.hit") is None


def test_a_script_of_somebody_else_does_not_run(tab: Any, usual: Path) -> None:
    """Should a text ever get in as HTML: the policy of the page refuses it."""
    opened(tab, usual)
    tab.run("document.body.insertAdjacentHTML('beforeend', \"<img src=x onerror='window.hit=1'>\"); 1")
    tab.run("const s = document.createElement('script'); s.textContent = 'window.hit=1'; document.body.append(s); 1")
    time.sleep(0.3)
    assert tab.run("window.hit") is None and any("Content Security Policy" in error for error in tab.errors)


def test_ten_thousand_steps_and_fifty_thousand_samples_open_within_five_seconds(tab: Any, tmp_path: Path) -> None:
    path, generator = folder(tmp_path / "run", 1, groups=1), random.Random(1)
    run = RunFolder(path)
    run.append("metrics", (step(number, generator) for number in range(2, 10_001)))
    answer = "Let us see. " * 40 + "\\boxed{4}"
    run.append("rollouts", (row for number in range(2, 6252) for row in rows(number, 1, generator, answer)))
    seconds = opened(tab, path)
    page = (tmp_path / "page.html").stat().st_size
    assert seconds < OPENS and page < 5e6, f"{seconds:.1f} s, {page / 1e6:.1f} MB"
    assert " of 50,008 samples: whole groups at " in text(tab, "#said")
    assert "step 10000" in text(tab, "#head")


def test_several_runs_lie_over_each_other_with_their_differing_flags(tab: Any, tmp_path: Path) -> None:
    first, second = folder(tmp_path / "a", 6), folder(tmp_path / "b", 9)
    (second / "config.yaml").write_text(
        "hybrid.preset: rft\nactor.adam.lr: 0.001\nactor.model_name_or_path: a/model\n"
    )
    opened(tab, first, second)
    assert text(tab, "#head h1") == "2 runs"
    table = tab.run(
        "[...document.querySelectorAll('#flags tbody tr')].map(e => [...e.children].map(c => c.textContent))"
    )
    assert table == [["hybrid.preset", "prefix_rft", "rft"]]
    legend = texts(tab, "[data-title=Reward] .legend button")
    assert {"a: plain", "b: plain"} <= set(legend)
    enter(tab, "#samples select", "value", 1, "change")
    assert tab.run("document.getElementById('step').max") == "8"


def test_it_fits_a_phone_and_a_dark_room(tab: Any, usual: Path) -> None:
    """No sideways scrolling at 360 pixels; the dark scheme's own colours."""
    opened(tab, usual)
    background = "getComputedStyle(document.body).backgroundColor"
    light = tab.run(background)
    try:
        tab.resize(360, 740)
        tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
        time.sleep(0.5)
        assert tab.run("document.documentElement.scrollWidth") <= 360
        assert tab.run(background) != light
        assert tab.run("Math.max(...[...document.querySelectorAll('.chart canvas')].map(e => e.clientWidth))") < 360
    finally:
        tab.resize(1400, 1000)
        tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])


def test_the_live_view_follows_a_run(tab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openrlhf_prefix.report.serve.SECONDS", 0.2)
    path = folder(tmp_path / "run", 3)
    running = server(View([path], BUDGET), 0)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    try:
        tab.errors.clear()
        tab.open(f"http://127.0.0.1:{running.server_address[1]}/")
        assert "step 3 of 6" in text(tab, "#head")
        click(tab, "#group .row", 3)
        before = text(tab, "#sample h3")
        RunFolder(path).append("rollouts", rows(0, 1, random.Random(3)))
        RunFolder(path).append("metrics", [step(4, random.Random(2))])
        end = time.monotonic() + 20
        while "step 4 of 6" not in text(tab, "#head") and time.monotonic() < end:
            time.sleep(0.1)
        assert "step 4 of 6" in text(tab, "#head") and tab.errors == []
        assert text(tab, "#sample h3") == before and "row 3" in before  # the new group of step 0 moved all places
    finally:
        tab.open("about:blank")
        running.shutdown()
        running.server_close()


def test_the_payload_of_a_usual_run_is_small(usual: Path) -> None:
    assert len(json.dumps(payload(read_runs([usual])))) < 500_000
