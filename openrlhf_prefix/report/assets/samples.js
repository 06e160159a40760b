"use strict";
// The rollouts: a step, a problem, a row; or the telling ones; or those with a word in them.

const chosen = { run: 0, group: -1, row: 0, step: 0, number: 0 };
const FOUND_AT_MOST = 200;

function showSamples(data) {
  const runs = data.runs;
  if (!runs.some((run) => run.samples.groups.length)) { fill("samples"); return; }
  const section = document.getElementById("samples");
  const find = section.querySelector("input[type=search]");
  const words = find ? find.value : "", focused = find && document.activeElement === find;
  if (!runs[chosen.run] || !runs[chosen.run].samples.groups.length)
    chosen.run = runs.findIndex((run) => run.samples.groups.length);
  const choice = make("div", { class: "choice", id: "choice" });
  const search = make("input", { type: "search", placeholder: "search prompts, prefixes, answers", "aria-label": "search samples", value: words });
  search.addEventListener("input", () => listRows(data));
  section.replaceChildren(make("h2", {}, "Samples"), make("p", { class: "note", id: "said" }),
    make("div", { class: "bar" }, runs.length > 1 ? runMenu(data) : null, choice, search),
    make("div", { class: "split" }, make("div", { class: "list card", id: "list" }), make("div", { class: "right" }, make("div", { class: "card", id: "sample" }), make("div", { class: "card", id: "group" }))));
  section.hidden = false;
  // New data may have other groups: the one that is looked at stays, where it is among them.
  const same = groupsOf(data).findIndex((one) => one.step === chosen.step && one.group === chosen.number);
  choose(data, ...(chosen.group >= 0 && same >= 0 ? [same, chosen.row] : firstChoice(groupsOf(data))));
  if (focused) search.focus();
}

// A row of the middle of the run that starts from a demonstration, where there is one: it has all the colours.
function firstChoice(groups) {
  for (let at = groups.length >> 1; at < groups.length; at += 1) {
    const row = groups[at].rows.findIndex((one) => one.kept && one.kept.length);
    if (row >= 0) return [at, row];
  }
  return [0, 0];
}

function groupsOf(data) { return data.runs[chosen.run].samples.groups; }

function runMenu(data) {
  const menu = make("select", { "aria-label": "run" }, data.runs.map((run, place) =>
    run.samples.groups.length ? make("option", { value: place, selected: place === chosen.run }, run.name) : null));
  menu.addEventListener("change", () => {
    chosen.run = Number(menu.value);
    choose(data, ...firstChoice(groupsOf(data)));
  });
  return menu;
}

// Step and problem in menus; a step has its groups next to each other.
function choose(data, group, row) {
  const groups = groupsOf(data);
  chosen.group = group;
  chosen.row = Math.min(row, groups[group].rows.length - 1);
  const step = groups[group].step;
  [chosen.step, chosen.number] = [step, groups[group].group];
  const steps = [...new Set(groups.map((one) => one.step))];
  const place = steps.indexOf(step);
  const of = groups.map((one, at) => [one, at]).filter(([one]) => one.step === step);
  const slider = make("input", { type: "range", min: 0, max: steps.length - 1, value: place, "aria-label": "step", id: "step" });
  slider.addEventListener("change", () => {
    choose(data, groups.findIndex((one) => one.step === steps[Number(slider.value)]), 0);
    document.getElementById("step").focus();
  });
  slider.addEventListener("input", () => { label.textContent = "step " + steps[Number(slider.value)]; });
  const label = make("span", { class: "steplabel" }, "step " + step);
  const problems = make("select", { "aria-label": "problem", id: "problem" }, of.map(([one, at]) =>
    make("option", { value: at, selected: at === group }, oneLine(one.problem || `group ${one.group}`, 40) + ` (${right(one)} of ${one.rows.length} right)`)));
  problems.addEventListener("change", () => choose(data, Number(problems.value), 0));
  document.getElementById("choice").replaceChildren(slider, label, problems);
  document.getElementById("said").replaceChildren(data.runs[chosen.run].samples.said + ".");
  listRows(data);
  showSample(data);
  showGroup(data);
}

// All rows of the problem under each other, the middle of each where prefix and continuation meet.
function showGroup(data) {
  const group = groupsOf(data)[chosen.group];
  document.getElementById("group").replaceChildren(
    make("h3", {}, `All rows of ${oneLine(group.problem || "this problem", 60)} at step ${group.step}: ${right(group)} of ${group.rows.length} right`),
    ...group.rows.map((row, slot) => make("button", { type: "button", class: "row side", "aria-current": slot === chosen.row ? "true" : null, onclick: () => choose(data, chosen.group, slot) },
      mark(row), make("span", { class: "adv" }, signed(row.advantage)), make("span", { class: "line" },
        row.prefix ? make("span", { class: "prefix" }, (row.prefix.length > 60 ? "…" : "") + oneLine(row.prefix.slice(-60), 60)) : null,
        make("span", { class: "continuation" }, oneLine((row.text || "").slice(0, 400), 160))))));
}

function right(group) { return group.rows.filter((row) => row.reward > 0).length; }

function listRows(data) {
  const words = document.querySelector("#samples input[type=search]").value.trim().toLowerCase();
  const groups = groupsOf(data), samples = data.runs[chosen.run].samples;
  const list = document.getElementById("list");
  if (words) {
    const found = [];
    let count = 0;
    groups.forEach((group, at) => {
      const shared = `${group.prompt}\n${group.problem}\n${group.answer}`.toLowerCase().includes(words);
      group.rows.forEach((row, slot) => {
        if (!shared && !`${row.prefix || ""}${row.text || ""}`.toLowerCase().includes(words)) return;
        count += 1;
        if (found.length < FOUND_AT_MOST) found.push([at, slot]);
      });
    });
    const more = count > found.length ? `, the first ${found.length} of them here` : "";
    list.replaceChildren(make("h3", {}, `${count.toLocaleString("en-US")} rows with “${oneLine(words, 30)}”${more}`), ...found.map((place) => rowButton(data, place, true)));
    return;
  }
  const mine = groups[chosen.group].rows.map((_, slot) => [chosen.group, slot]);
  list.replaceChildren(make("h3", {}, "The problem's rows"), ...mine.map((place) => rowButton(data, place, false)),
    ...telling(data, "The luckiest", "right where the others of its group are wrong", samples.luckiest),
    ...telling(data, "The worst", "wrong where the others of its group are right", samples.worst));
}

function telling(data, title, note, places) {
  if (!places.length) return [];
  return [make("h3", { title: note }, title), make("p", { class: "note" }, note), ...places.map((place) => rowButton(data, place, true))];
}

function rowButton(data, [at, slot], far) {
  const group = groupsOf(data)[at], row = group.rows[slot];
  const current = at === chosen.group && slot === chosen.row;
  return make("button", { type: "button", class: "row", "aria-current": current ? "true" : null, onclick: () => choose(data, at, slot) },
    mark(row),
    make("span", { class: "what" }, far ? `step ${group.step}, ${oneLine(group.problem || "group " + group.group, 24)}` : `row ${row.slot || 0}`,
      row.prefix_length ? make("span", { class: "tag prefixed" }, "prefix") : null,
      row.truncated ? make("span", { class: "tag" }, "cut off") : null),
    make("span", { class: "says" }, oneLine(row.said || tail(row.text), 22)),
    make("span", { class: "adv" }, signed(row.advantage)));
}

function tail(text) { return (text || "").slice(-60); }

function mark(row) {
  if (row.failed) return make("span", { class: "mark failed", title: "the reward failed" }, "!");
  const good = row.reward > 0;
  return make("span", { class: "mark " + (good ? "good" : "bad"), title: "reward " + number(row.reward) }, good ? "✓" : "✗");
}

function signed(value) {
  if (value === null || value === undefined) return "";
  return (value > 0 ? "+" : value < 0 ? "−" : "±") + Math.abs(value).toFixed(2);
}

function showSample(data) {
  const group = groupsOf(data)[chosen.group], row = group.rows[chosen.row];
  const facts = [
    ["Reward", row.failed ? "failed" : number(row.reward)], ["Advantage", signed(row.advantage) || "–"],
    row.prefix_length ? ["of its prefix", signed(row.prefix_advantage) || "–"] : null,
    ["Answer", row.said === undefined ? "none in a box" : oneLine(row.said, 120)], ["Expected", oneLine(group.answer, 120)],
    row.verdict ? ["Verifier", row.verdict.replace("_", " ")] : null,
    row.length ? ["Tokens", `${row.length}` + (row.prefix_length ? ` (${row.prefix_length} given)` : "")] : null,
    row.truncated ? ["Ends", "at its budget"] : null, row.alone ? ["Prefix", "is right by itself"] : null,
  ].filter(Boolean);
  const missing = row.tokens ? (row.log_probs ? "" : "The log-probs of this row were not measured.")
    : "Tokens of this row are not in the page: an older run, or a long text.";
  document.getElementById("sample").replaceChildren(
    make("h3", {}, mark(row), ` step ${group.step}, ${oneLine(group.problem || "group " + group.group, 60)}, row ${row.slot || 0}`),
    make("dl", {}, facts.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value)))),
    make("div", { class: "keys" }, make("span", { class: "prompt" }, "prompt"),
      row.prefix ? [make("span", { class: "prefix" }, "prefix"), row.kept ? make("span", { class: "prefix kept" }, "prefix token that trains") : null] : null,
      make("span", { class: "continuation" }, "continuation")),
    make("pre", { class: "text", dir: "ltr" }, make("span", { class: "prompt" }, plain(row.prompt || group.prompt)), tokens(row)),
    make("p", { class: "note", id: "token" }, missing || "Point at a token for its log-prob."));
}

// Prefix and continuation, token by token where their lengths are known.
function tokens(row) {
  const prefix = row.prefix || "", text = row.text || "";
  if (!row.tokens)
    return [prefix ? make("span", { class: "prefix" }, plain(prefix)) : null, make("span", { class: "continuation" }, plain(text))];
  const kept = new Set(row.kept || []), whole = prefix + text, given = row.prefix_length || 0;
  // Lengths count code points, as Python does; a string of JavaScript counts halves of the larger ones.
  const points = /[\ud800-\udfff]/.test(whole) ? Array.from(whole) : null;
  let from = 0;
  return row.tokens.map((length, place) => {
    const piece = points ? points.slice(from, from + length).join("") : whole.slice(from, from + length);
    from += length;
    if (!length) return null;
    const log = row.log_probs ? row.log_probs[place] : null;
    const what = place < given ? (kept.has(place) ? "prefix token, trains" : row.kept ? "prefix token, does not train" : "prefix token") : "sampled token";
    const said = `token ${place + 1}, ${what}` + (log === null || log === undefined ? "" : `, log-prob ${log.toFixed(3)} (${(100 * Math.exp(log)).toFixed(1)} %)`);
    const unsure = log !== null && log !== undefined && log < -1 ? " unsure" : "";
    return make("span", { class: (place < given ? (kept.has(place) ? "prefix kept" : "prefix") : "continuation") + " token" + unsure, title: said }, plain(piece));
  });
}

document.addEventListener("mouseover", (event) => {
  const token = event.target.closest && event.target.closest(".token");
  const line = document.getElementById("token");
  if (token && line) line.textContent = token.title;
});
