"use strict";
// The curves. One run: a colour for each metric. Several runs: a colour for each run, and a dash for each metric.

const DASHES = [[], [6, 4], [2, 3], [10, 3, 2, 3], [1, 5], [12, 6]];
const drawn = [];

function chartCard(chart, runs) {
  const legend = make("div", { class: "legend" });
  const plot = make("div", { class: "plot" });
  const each = Math.max(...chart.runs.map((run) => run.each));
  const card = make("article", { class: "card chart", "data-title": chart.title },
    make("h3", {}, chart.title),
    make("p", { class: "note" }, chart.note, each > 1 ? ` A point is the mean of ${each} steps` + (chart.kind === "stack" ? "." : ", the shade reaches from their lowest to their highest.") : ""),
    legend, plot);
  drawn.push({ chart, runs, plot, legend, instance: null });
  return card;
}

// [{label, colour, dash, steps, values, low, high, area}] of all runs.
function curvesOf(chart, runs) {
  const curves = [];
  const names = Object.keys(chart.curves).filter((name) => chart.runs.some((run) => run.values[name]));
  chart.runs.forEach((run, place) => {
    const stack = chart.kind === "stack" && runs.length === 1;
    let below = run.steps.map(() => 0);
    names.forEach((name, index) => {
      if (!run.values[name]) return;
      const values = stack ? run.values[name].map((value, at) => (below[at] += value || 0)) : run.values[name];
      curves.push({
        label: runs.length > 1 ? `${runs[place].name}: ${chart.curves[name]}` : chart.curves[name],
        colour: runs.length > 1 ? place : index,
        dash: runs.length > 1 ? DASHES[index % DASHES.length] : [],
        steps: run.steps, values: stack ? values.slice() : values, shown: run.values[name],
        low: !stack && run.low && run.low[name], high: !stack && run.high && run.high[name], area: stack,
        edge: chart.kind === "band" && runs.length === 1 && index < 2,
      });
    });
  });
  return curves;
}

function aligned(curves) {
  const steps = [...new Set(curves.flatMap((curve) => curve.steps))].sort((a, b) => a - b);
  const place = new Map(steps.map((step, at) => [step, at]));
  const column = (curve, values) => {
    const out = new Array(steps.length).fill(null);
    curve.steps.forEach((step, at) => { out[place.get(step)] = values[at]; });
    return out;
  };
  return { steps, column };
}

function draw(one) {
  const { chart, runs, plot, legend } = one;
  const style = getComputedStyle(document.documentElement);
  const ink = style.getPropertyValue("--quiet").trim(), grid = style.getPropertyValue("--grid").trim();
  const curves = curvesOf(chart, runs);
  const { steps, column } = aligned(curves);
  const data = [steps], series = [{ label: "step" }], bands = [], shown = [];
  const add = (values, options) => { data.push(values); series.push(options); return data.length - 1; };
  const few = steps.length <= 40;
  for (const curve of curves) {
    const paint = colour(curve.colour);
    if (curve.low && curve.low.some((value) => value !== null)) {
      const edge = { stroke: "transparent", points: { show: false }, spanGaps: true };
      const high = add(column(curve, curve.high), edge), low = add(column(curve, curve.low), edge);
      bands.push({ series: [high, low], fill: paint + "30" });
    }
    curve.index = add(column(curve, curve.values), {
      label: curve.label, stroke: paint, width: curve.area ? 1 : 2, dash: curve.dash, spanGaps: true,
      points: { show: few && !curve.area && !curve.edge, size: 5, fill: paint },
      fill: curve.area && curve === curves[0] ? paint + "b0" : undefined,
    });
    if (curve.area && curve !== curves[0])
      bands.push({ series: [curve.index, curve.index - 1], fill: paint + "b0" });
    curve.column = column(curve, curve.shown);
    shown.push(curve);
  }
  if (chart.kind === "band" && curves.length > 1 && curves[0].edge && curves[1].edge)
    bands.push({ series: [curves[0].index, curves[1].index], fill: colour(0) + "28" });
  const tip = make("div", { class: "tip", hidden: true });
  const options = {
    width: Math.max(plot.clientWidth, 200), height: 190, legend: { show: false }, series, bands,
    scales: { x: { time: false }, y: { range: (_, low, high) => range(chart, low, high) } },
    cursor: { sync: { key: "step" }, points: { size: 7 }, drag: { x: true, y: false } },
    axes: [
      { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1 }, size: 30, font: "11px system-ui" },
      { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { show: false }, size: 50, font: "11px system-ui",
        values: (_, marks) => marks.map((mark) => (chart.unit === "%" ? Math.round(1000 * mark) / 10 + " %" : compact(mark))) },
    ],
    hooks: { setCursor: [(instance) => hover(instance, tip, shown, steps, chart)] },
  };
  if (one.instance) one.instance.destroy();
  plot.replaceChildren();
  one.instance = new uPlot(options, data, plot);
  one.instance.over.append(tip);
  one.instance.over.addEventListener("mouseleave", () => { tip.hidden = true; });
  legend.replaceChildren(...curves.map((curve) => legendItem(one, curve)));
}

function range(chart, low, high) {
  if (low === null || low === undefined) return [0, 1];
  if (low >= 0) low = 0;
  if (chart.unit === "%" || chart.kind === "band") high = Math.min(1.02, Math.max(high * 1.1, 0.1));
  else high = high + (high - low) * 0.08 || 1;
  return [low < 0 ? low - (high - low) * 0.05 : 0, high];
}

function compact(mark) {
  const size = Math.abs(mark);
  if (size >= 1e6) return mark / 1e6 + "M";
  if (size >= 1e4) return mark / 1e3 + "k";
  return size && size < 1e-3 ? mark.toExponential(0) : String(Number(mark.toPrecision(6)));
}

function hover(instance, tip, curves, steps, chart) {
  const { left, idx } = instance.cursor;
  if (idx === null || idx === undefined || left < 0 || !instance.over.matches(":hover")) { tip.hidden = true; return; }
  const rows = curves.filter((curve) => instance.series[curve.index].show && curve.column[idx] !== null);
  tip.replaceChildren(make("b", {}, "step " + steps[idx].toLocaleString("en-US")), ...rows.map((curve) => {
    const key = make("i", { class: "key" });
    key.style.background = colour(curve.colour);
    const at = curve.steps.indexOf(steps[idx]);
    const within = curve.low && curve.low[at] !== null ? ` (${number(curve.low[at], chart.unit)} to ${number(curve.high[at], chart.unit)})` : "";
    return make("div", {}, key, curve.label + " ", make("b", {}, number(curve.column[idx], chart.unit)), within);
  }));
  tip.hidden = false;
  const right = left > instance.over.clientWidth / 2;
  tip.style.left = right ? "auto" : left + 14 + "px";
  tip.style.right = right ? instance.over.clientWidth - left + 14 + "px" : "auto";
}

function legendItem(one, curve) {
  const key = make("i", { class: "key" });
  key.style.background = curve.dash.length
    ? `repeating-linear-gradient(90deg, ${colour(curve.colour)} 0 5px, transparent 5px 8px)` : colour(curve.colour);
  const item = make("button", { type: "button", title: "show or hide", "aria-pressed": "true" }, key, curve.label);
  item.addEventListener("click", () => {
    const show = !one.instance.series[curve.index].show;
    one.instance.setSeries(curve.index, { show });
    item.setAttribute("aria-pressed", String(show));
  });
  return item;
}

// Charts are drawn when they come into sight, and again when their width or the colours change.
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const one = drawn.find((candidate) => candidate.plot === entry.target);
    if (entry.isIntersecting && one && !one.instance) draw(one);
  }
}, { rootMargin: "400px" });

let waiting = null;
function redraw(everything) {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    for (const one of drawn) {
      if (!one.instance) continue;
      if (everything) draw(one);
      else one.instance.setSize({ width: Math.max(one.plot.clientWidth, 200), height: 190 });
    }
  }, 120);
}
window.addEventListener("resize", () => redraw(false));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraw(true));

// Held-out scores are a chart like the others, with a band for each curve.
function scoreChart(runs) {
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.scores.curves || {})))];
  if (!names.length) return null;
  const points = runs.map((run) => {
    const curves = run.scores.curves || {};
    const steps = [...new Set(Object.values(curves).flatMap((curve) => curve.steps))].sort((a, b) => a - b);
    const spread = (curve, part) => {
      const known = new Map(curve.steps.map((step, at) => [step, curve[part][at]]));
      return steps.map((step) => (known.has(step) ? known.get(step) : null));
    };
    const out = { steps, values: {}, low: {}, high: {}, each: 1 };
    for (const [name, curve] of Object.entries(curves)) {
      out.values[name] = spread(curve, "values");
      out.low[name] = spread(curve, "low");
      out.high[name] = spread(curve, "high");
    }
    return out;
  });
  return {
    title: "Held-out score", kind: "lines", unit: "%", group: "Learning", runs: points,
    curves: Object.fromEntries(names.map((name) => [name, name.replace("_pass", " pass@")])),
    note: "pass@1 is the mean of all samples, pass@n the problems that one of n samples solved; 95 % interval over problems.",
  };
}

function showCharts(data) {
  drawn.length = 0;
  seen.disconnect();
  const score = scoreChart(data.runs);
  const all = score ? [score, ...data.charts] : data.charts;
  const groups = [...new Set(all.map((chart) => chart.group))];
  fill("groups", groups.map((group) => make("a", { href: "#" + slug(group) }, group)),
    data.runs.some((run) => run.samples.groups.length) ? make("a", { href: "#samples" }, "Samples") : null);
  const open = new Set([...document.querySelectorAll("details.more[open]")].map((element) => element.id));
  fill("charts", groups.map((group) => {
    const cards = all.filter((chart) => chart.group === group).map((chart) => chartCard(chart, data.runs));
    const inner = make("div", { class: "cards" }, cards);
    if (group !== "Everything else") return [make("h2", { id: slug(group) }, group), inner];
    return make("details", { class: "more", id: slug(group), open: open.has(slug(group)) },
      make("summary", {}, `Everything else (${cards.length} metrics)`), inner);
  }));
  for (const one of drawn) seen.observe(one.plot);
}

function slug(text) { return text.toLowerCase().replace(/[^a-z]+/g, "-"); }
