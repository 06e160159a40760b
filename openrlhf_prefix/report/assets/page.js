"use strict";
// The head, the tables, and what puts all of it on the page.

function showHead(data) {
  const one = data.runs.length === 1 ? data.runs[0] : null;
  fill("head", make("h1", {}, one ? one.name : `${data.runs.length} runs`),
    make("div", { class: "runs" }, data.runs.map((run, place) => runCard(run, place, !one))));
}

function runCard(run, place, many) {
  const part = run.total ? Math.min(1, run.step / run.total) : null;
  const bar = make("i", {});
  bar.style.width = 100 * (part || 0) + "%";
  const key = make("i", { class: "key" });
  key.style.background = colour(place);
  const where = run.finished ? `finished: ${run.step} steps` : run.total ? `step ${run.step} of ${run.total}` : `step ${run.step}`;
  return make("article", { class: "card run" },
    many ? make("h3", {}, key, run.name) : null,
    make("p", { class: "where" }, run.method ? make("span", { class: "method" }, run.method) : null, make("b", {}, where),
      ` ${duration(run.seconds)} in steps, ${run.tokens.toLocaleString("en-US", { notation: "compact" })} tokens sampled; last written ${run.written}`),
    part === null ? null : make("div", { class: "progress", role: "progressbar", "aria-valuenow": run.step, "aria-valuemax": run.total }, bar),
    make("dl", {}, run.facts.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value)))));
}

function showCautions(data) {
  const all = data.runs.flatMap((run) => run.cautions.map((caution) => [run, caution]));
  fill("cautions", all.map(([run, caution]) => make("div", { class: "caution" }, make("b", {},
    (data.runs.length > 1 ? run.name + ": " : "") + caution.title + ". "), caution.text)));
}

function showScores(data) {
  const tables = data.runs.filter((run) => run.scores.metrics).map((run) => {
    const { metrics, best_step: best, last_step: last, problems, samples } = run.scores;
    const based = metrics.some((metric) => metric.base);
    const rows = metrics.map((metric) => make("tr", {}, make("th", { scope: "row" }, metric.name.replace("_pass", " pass@")),
      based ? make("td", {}, percent(metric.base)) : null, make("td", {}, percent(metric.best)), make("td", {}, percent(metric.last)),
      based ? make("td", {}, gain(metric.gain)) : null));
    const head = ["", based ? "base" : null, `best (step ${best})`, `last (step ${last})`, based ? "gain" : null];
    return make("div", { class: "card" }, make("h3", {}, data.runs.length > 1 ? `Held-out scores of ${run.name}` : "Held-out scores"),
      make("div", { class: "wide" }, make("table", {}, make("thead", {}, make("tr", {}, head.filter((name) => name !== null).map((name) => make("th", { scope: "col" }, name)))), make("tbody", {}, rows))),
      make("p", { class: "note" }, `95 % intervals over ${problems || "the"} problems` + (samples ? `, ${samples} samples of each` : "") +
        ". The best step was chosen by these scores, so its own is a little too high."));
  });
  fill("scores", tables);
}

function gain(value) {
  if (!value) return "–";
  const [points, low, high] = value.map((part) => (part < 0 ? "−" : "+") + Math.abs(100 * part).toFixed(1));
  const noise = value[1] <= 0 && value[2] >= 0;
  return [make("b", { class: noise ? "" : value[0] > 0 ? "up" : "down" }, points), make("span", { class: "interval" }, ` ${low} to ${high}${noise ? ", within noise" : ""}`)];
}

function showFlags(data) {
  if (data.runs.length < 2) { fill("flags"); return; }
  const head = make("tr", {}, make("th", {}, "flag"), data.runs.map((run) => make("th", { scope: "col" }, run.name)));
  const rows = data.flags.map(([name, ...values]) => make("tr", {}, make("th", { scope: "row" }, name), values.map((value) => make("td", {}, value))));
  fill("flags", make("div", { class: "card" }, make("h3", {}, "Flags that differ"), rows.length
    ? make("div", { class: "wide" }, make("table", { class: "flags" }, make("thead", {}, head), make("tbody", {}, rows)))
    : make("p", { class: "note" }, "None, apart from folders.")));
}

function showFoot(data) {
  const notes = data.runs.flatMap((run) => run.notes.map((note) => make("li", {}, (data.runs.length > 1 ? run.name + ": " : "") + note)));
  const versions = [...new Set(data.runs.map((run) => run.versions).filter(Boolean))];
  fill("foot", notes.length ? make("ul", {}, notes) : null, make("p", {}, `Made ${data.made} by openrlhf-prefix report. Drag over a curve to zoom, double-click to go back.`),
    versions.map((line) => make("p", {}, line)));
}

function show(data) {
  showHead(data);
  showCautions(data);
  showScores(data);
  showFlags(data);
  showCharts(data);
  showSamples(data);
  showFoot(data);
}

async function refresh() {
  try {
    const answer = await fetch("data.json");
    if (!answer.ok) throw new Error(answer.status);
    const text = await answer.text();
    if (text !== shown) {
      const y = scrollY;
      shown = text;
      show(JSON.parse(shown));
      scrollTo({ top: y, behavior: "instant" });
    }
  } catch {
    document.getElementById("foot").append(make("p", { class: "note" }, "The live view does not answer: it was ended, or this machine is busy."));
    clearInterval(timer);
  }
}

let shown = document.getElementById("data").textContent;
show(JSON.parse(shown));
const live = Number(document.body.dataset.live);
const timer = live ? setInterval(refresh, 1000 * live) : null;
