"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const number = (value, digits = 1) => (value === null ? "–" : value.toFixed(digits).replace("-", "−"));
const percent = (value) => (value === null ? "–" : `${number(value)}\u00a0%`);
const signed = (value) => (value === null ? "–" : (value > 0 ? "+" : "") + number(value));
const range = (low, high, show = number) => (low === null ? "" : `[${show(low)}, ${show(high)}]`);
/* The class of a difference: "good" or "bad" if it is beyond doubt. */
const mood = (value, name) => ["bad", "", "good"][value[`${name}_direction`] + 1];
const plain = (name) => name.replaceAll("_", " ");

function element(tag, attributes = {}, ...children) {
  const isSvg = ["svg", "g", "path", "line", "circle", "text", "polygon", "title"].includes(tag);
  const node = isSvg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const scale = (low, high, from, to) => (value) => from + ((value - low) / (high - low || 1)) * (to - from);
/* Returns about `count` round numbers between two ends. */
function ticks(low, high, count) {
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((value) => value >= raw);
  const first = Math.ceil(low / step);
  const length = Math.floor(high / step + 1e-9) - first + 1;
  return Array.from({ length }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

const path = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)},${y.toFixed(1)}`).join("");
const band = (xs, lows, highs) =>
  path([...xs.map((x, i) => [x, highs[i]]), ...xs.map((x, i) => [x, lows[i]]).reverse()]) + "Z";
/* Draws a horizontal grid line with its number on the left. */
const gridLine = (tick, y, left, right) => [
  element("line", { class: "grid", x1: left, x2: right, y1: y, y2: y }),
  element("text", { x: left - 5, y: y + 4, "text-anchor": "end" }, `${tick}`),
];

const withLambda = data.models.filter((model) => model.lambdas.length);
const subjects = withLambda.length ? withLambda : data.models;
const state = { model: subjects[0], index: 0, axis: "lam" };
const values = (model, name) => data.summary[model]?.[name] ?? [];
const now = (name) => values(state.model.name, name)[state.index] ?? null;
const lamText = () => (lam() === undefined ? "no λ" : `λ = ${lam()}`);
const trained = (name) => values(state.model.name, name)[state.model.lambdas.indexOf(state.model.trained)] ?? null;
const baseline = (name) => {
  if (!data.baseline || data.baseline === state.model.name) return null;
  return values(data.baseline, name)[data.baseline_index] ?? null;
};
const lam = () => state.model.lambdas[state.index];
const hasLam = withLambda.length > 0;
const inDark = matchMedia("(prefers-color-scheme: dark)");
/* Lightens colours that are too dark for a dark page. */
const colours = data.looks;
const tint = (name) => (colours[name] === "#000000" ? "var(--ink)" : colours[name] === "#0072B2" && inDark.matches ? "#3d9fd8" : colours[name]);
function dot(name) {
  const mark = element("i", { class: "dot", "aria-hidden": "true" });
  mark.style.background = tint(name);
  return mark;
}
const names = data.groups.flatMap(([, members]) => members);
const all = [...Object.values(data.summary)].flatMap((table) => Object.values(table).flat()).filter(Boolean);
const floor = Math.min(90, 10 * Math.floor(Math.min(...all.map((value) => value.low), 100) / 10));
