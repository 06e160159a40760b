"use strict";
// Elements and numbers. Text gets into the page here and as text alone: no string of the data is ever read as HTML.

function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

function fill(id, ...children) {
  const element = document.getElementById(id);
  element.replaceChildren(...children.flat(Infinity).filter(Boolean));
  element.hidden = !element.childNodes.length;
  return element;
}

// Characters that are not seen, or turn the direction of what follows, are shown by their code.
const UNSEEN = /([\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb])/;

function plain(text) {
  const parts = String(text).split(UNSEEN);
  return parts.map((part, place) =>
    place % 2 ? make("span", { class: "unseen" }, "U+" + part.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")) : part);
}

// A text without unseen characters, for one line of a list.
function oneLine(text, longest) {
  const line = String(text).split(UNSEEN).filter((_, place) => place % 2 === 0).join("").replace(/\s+/g, " ").trim();
  return line.length > longest ? line.slice(0, longest) + "…" : line;
}

function number(value, unit) {
  if (value === null || value === undefined) return "–";
  if (unit === "%") return (100 * value).toFixed(1) + " %";
  const size = Math.abs(value);
  if (size >= 10000) return Math.round(value).toLocaleString("en-US");
  if (size >= 100) return value.toFixed(0);
  if (size && size < 0.001) return value.toExponential(1);
  return String(Number(value.toFixed(size < 1 ? 3 : 2)));
}

function percent(score) {
  if (!score) return ["–"];
  const [value, low, high] = score;
  const shown = [make("b", {}, (100 * value).toFixed(1) + " %")];
  if (low !== null && low !== undefined)
    shown.push(make("span", { class: "interval" }, ` ${(100 * low).toFixed(1)} to ${(100 * high).toFixed(1)}`));
  return shown;
}

function duration(seconds) {
  if (seconds < 90) return seconds.toFixed(0) + " s";
  if (seconds < 5400) return (seconds / 60).toFixed(0) + " min";
  return (seconds / 3600).toFixed(1) + " h";
}

function colour(place) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--c${place % 8}`).trim();
}
