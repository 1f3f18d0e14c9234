"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const number = (value, digits = 1) => (value === null ? "–" : value.toFixed(digits).replace("-", "−"));
const signed = (value) => (value === null ? "–" : (value > 0 ? "+" : "") + number(value));
const range = (low, high, show = number) => (low === null ? "" : `[${show(low)}, ${show(high)}]`);
/* Beyond doubt: the interval excludes zero and, in a single cell, McNemar's p is below 0.05. */
const mood = (value, name) => {
  if (value[`${name}_p`] !== null && value[`${name}_p`] >= 0.05) return "";
  return value[`${name}_low`] > 0 ? "good" : value[`${name}_high`] < 0 ? "bad" : "";
};
const plain = (name) => name.replaceAll("_", " ");

function element(tag, attributes = {}, ...children) {
  const isSvg = ["svg", "g", "path", "line", "circle", "text", "polygon", "title"].includes(tag);
  const node = isSvg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const scale = (low, high, from, to) => (value) => from + ((value - low) / (high - low || 1)) * (to - from);
/* About `count` round numbers between two ends. */
function ticks(low, high, count) {
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((value) => value >= raw);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

const path = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)},${y.toFixed(1)}`).join("");
const band = (xs, lows, highs) => path([...xs.map((x, i) => [x, highs[i]]), ...xs.map((x, i) => [x, lows[i]]).reverse()]) + "Z";

const subjects = data.models.some((model) => model.lambdas.length) ? data.models.filter((model) => model.lambdas.length) : data.models;
const state = { model: subjects[0], index: 0, axis: "lam" };
const values = (model, name) => data.summary[model]?.[name] ?? [];
const now = (name) => values(state.model.name, name)[state.index] ?? null;
const trained = (name) => values(state.model.name, name)[state.model.lambdas.indexOf(state.model.trained)] ?? null;
const baseline = (name) => (data.baseline && data.baseline !== state.model.name ? values(data.baseline, name)[data.baseline_index] ?? null : null);
const lam = () => state.model.lambdas[state.index];
const names = data.groups.flatMap(([, members]) => members);
const all = [...Object.values(data.summary)].flatMap((table) => Object.values(table).flat()).filter(Boolean);
const floor = Math.min(90, 10 * Math.floor(Math.min(...all.map((value) => value.low), 100) / 10));

/* ---- tiles ---- */

function drawTiles() {
  const clean = now("clean"), mean = now(data.mean);
  const difference = (value, name) => [signed(value[name]), range(value[`${name}_low`], value[`${name}_high`], signed), mood(value, name)];
  const tiles = [];
  if (clean) tiles.push(["clean accuracy (%)", number(clean.accuracy), range(clean.low, clean.high), ""]);
  if (mean) {
    tiles.push([`mean of ${data.count} corruptions (%)`, number(mean.accuracy), range(mean.low, mean.high), ""]);
    if (mean.gain !== null && lam() !== state.model.trained) tiles.push([`points against its λ of training, ${state.model.trained}`, ...difference(mean, "gain")]);
    else if (mean.gain !== null) tiles.push(["points against its λ of training", "–", "this is the λ of training", ""]);
    if (mean.versus !== null) tiles.push([`points against ${data.baseline}`, ...difference(mean, "versus")]);
  }
  $("tiles").replaceChildren(...tiles.map(([name, value, interval, css]) =>
    element("div", { class: "tile" }, element("span", { class: "name" }, name), element("strong", { class: `value ${css}` }, value), element("span", { class: "range" }, interval.startsWith("[") ? `95 % ${interval}` : interval))));
}

/* ---- every corruption ---- */

function drawCorruptions() {
  const width = Math.max(320, $("corruptions").clientWidth - 24), narrow = width < 560, row = 25, top = 26;
  const left = narrow ? 112 : 168, right = narrow ? 44 : 108;
  const x = scale(floor, 100, left, width - right);
  const rows = data.groups.flatMap(([group, members]) => [{ group }, ...members.map((name) => ({ name }))]);
  const height = top + rows.length * row + 8;
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  const step = 100 - floor > 50 ? 20 : 10;
  for (let tick = floor; tick <= 100; tick += step) {
    svg.append(element("line", { class: "grid", x1: x(tick), x2: x(tick), y1: top - 6, y2: height - 4 }), element("text", { x: x(tick), y: 12, "text-anchor": "middle" }, `${tick} %`));
  }
  if (!narrow) svg.append(element("text", { x: width - 4, y: 12, "text-anchor": "end" }, "gain"));
  const marks = {};
  rows.forEach(({ group, name }, i) => {
    const y = top + i * row + row / 2;
    if (group) return svg.append(element("text", { class: "group", x: 4, y: y + 7 }, group.toUpperCase()));
    svg.append(element("text", { class: "name", x: 4, y: y + 4 }, plain(name)));
    const reference = baseline(name), own = trained(name);
    const link = element("line", { class: "link", y1: y, y2: y });
    svg.append(link);
    if (reference) svg.append(element("line", { class: "interval baseline", x1: x(reference.low), x2: x(reference.high), y1: y, y2: y }), element("circle", { class: "dot baseline", cx: x(reference.accuracy), cy: y, r: 4.5 }));
    if (own) svg.append(element("circle", { class: "dot trained", cx: x(own.accuracy), cy: y, r: 7 }));
    const interval = element("line", { class: "interval", y1: y, y2: y });
    const dot = element("circle", { class: "dot moving", r: 5.5 }), value = element("text", { x: width - (narrow ? 4 : 64), y: y + 4, "text-anchor": "end", class: "name" });
    const gain = element("text", { x: width - 4, y: y + 4, "text-anchor": "end" });
    svg.append(interval, dot, value);
    if (!narrow) svg.append(gain);
    marks[name] = { link, interval, dot, value, gain, y, reference };
  });
  $("corruptions").replaceChildren(svg);
  return () => {
    for (const [name, mark] of Object.entries(marks)) {
      const value = now(name);
      mark.dot.style.opacity = value ? 1 : 0;
      if (!value) { mark.value.textContent = "–"; continue; }
      mark.dot.style.transform = `translate(${x(value.accuracy)}px, ${mark.y}px)`;
      for (const [end, at] of [["x1", value.low], ["x2", value.high]]) mark.interval.setAttribute(end, x(at));
      mark.link.setAttribute("x1", x(mark.reference ? mark.reference.accuracy : value.accuracy));
      mark.link.setAttribute("x2", x(value.accuracy));
      mark.value.textContent = number(value.accuracy);
      mark.gain.textContent = signed(value.gain);
      mark.gain.setAttribute("class", mood(value, "gain"));
    }
    svg.setAttribute("aria-label", `Accuracy of ${state.model.name} at ${lamText()} per corruption: ` + names.map((name) => `${plain(name)} ${number(now(name)?.accuracy ?? null)} %`).join(", "));
  };
}

/* ---- small panels ---- */

/* The accuracies that a panel shows, rounded outwards to whole tens. */
function domain(name) {
  const models = [state.model.name, data.baseline].filter(Boolean);
  const shown = state.axis === "lam" ? models.flatMap((model) => values(model, name)) : models.flatMap((model) => data.cells[model]?.[name]?.values.flat() ?? []);
  const lows = shown.filter(Boolean).map((value) => value.low), highs = shown.filter(Boolean).map((value) => value.high);
  const high = Math.min(100, 10 * Math.ceil(Math.max(...highs) / 10));
  return [Math.min(10 * Math.floor(Math.min(...lows) / 10), high - 20), high];
}

function drawCurves() {
  const width = 210, height = 130, edge = { left: 28, right: 10, top: 8, bottom: 20 };
  const updates = [];
  const panels = ["clean", ...names].filter((name) => state.axis === "lam" || name !== "clean").filter((name) => values(state.model.name, name).some(Boolean)).map((name) => {
    const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
    const shown = element("span");
    const severities = data.cells[state.model.name]?.[name]?.severities ?? [];
    const positions = state.axis === "lam" ? state.model.lambdas : severities;
    const x = scale(Math.min(...positions), Math.max(...positions), edge.left, width - edge.right);
    const [low, high] = domain(name), y = scale(low, high, height - edge.bottom, edge.top);
    for (const tick of [low, (low + high) / 2, high]) svg.append(element("line", { class: "grid", x1: edge.left, x2: width - edge.right, y1: y(tick), y2: y(tick) }), element("text", { x: edge.left - 5, y: y(tick) + 4, "text-anchor": "end" }, `${tick}`));
    const ends = state.axis === "lam" ? [positions[0], positions[positions.length - 1]] : positions;
    for (const tick of new Set(ends)) svg.append(element("text", { x: x(tick), y: height - 4, "text-anchor": "middle" }, `${tick}`));
    updates.push(state.axis === "lam" ? curveAgainstLam(svg, name, x, y, shown) : curveAgainstSeverity(svg, name, x, y, shown));
    return element("figure", { class: "panel" }, element("figcaption", {}, plain(name), shown), svg);
  });
  $("curves").replaceChildren(...panels);
  $("curves-note").textContent = state.axis === "lam"
    ? `Mean accuracy (%) of ${state.model.name} over the severities, with 95 % bands; every panel has its own scale` + (data.baseline ? `; dashed: ${data.baseline}.` : ".")
    : `Accuracy (%) at every severity: ${state.model.name} at the chosen λ` + (state.model.trained === null ? "" : ", in grey at its λ of training") + (data.baseline ? `, dashed: ${data.baseline}.` : ".");
  return () => updates.forEach((update) => update());
}

function curveAgainstLam(svg, name, x, y, shown) {
  const points = values(state.model.name, name).map((value, i) => [state.model.lambdas[i] ?? 0, value]).filter(([, value]) => value);
  const xs = points.map(([at]) => x(at)), reference = baseline(name);
  svg.append(element("path", { class: "band", d: band(xs, points.map(([, v]) => y(v.low)), points.map(([, v]) => y(v.high))) }));
  if (reference) svg.append(element("line", { class: "line baseline", x1: 28, x2: 200, y1: y(reference.accuracy), y2: y(reference.accuracy) }));
  svg.append(element("path", { class: "line", d: path(points.map(([, v], i) => [xs[i], y(v.accuracy)])) }));
  const cursor = element("line", { class: "cursor moving", x1: 0, x2: 0, y1: 8, y2: 110 }), dot = element("circle", { class: "dot moving", r: 4.5 });
  svg.append(cursor, dot);
  return () => {
    const value = now(name), at = x(lam() ?? 0);
    cursor.style.transform = `translateX(${at}px)`;
    dot.style.opacity = value ? 1 : 0;
    if (value) dot.style.transform = `translate(${at}px, ${y(value.accuracy)}px)`;
    shown.textContent = value ? `${number(value.accuracy)} %` : "–";
    svg.setAttribute("aria-label", `${plain(name)}: ${shown.textContent} at ${lamText()}` + (reference ? `; ${data.baseline} ${number(reference.accuracy)} %` : ""));
  };
}

function curveAgainstSeverity(svg, name, x, y, shown) {
  const table = data.cells[state.model.name][name], other = data.cells[data.baseline]?.[name];
  const draw = (row, css) => element("path", { class: `line ${css}`, d: path(row.map((v, i) => [x(table.severities[i]), v && y(v.accuracy)]).filter(([, at]) => at !== null)) });
  if (other && data.baseline !== state.model.name) svg.append(draw(other.values[data.baseline_index], "baseline"));
  const own = table.values[state.model.lambdas.indexOf(state.model.trained)];
  if (own) svg.append(draw(own, "trained"));
  const area = element("path", { class: "band" }), line = element("path", { class: "line" });
  svg.append(area, line);
  return () => {
    const points = table.values[state.index].map((value, i) => [x(table.severities[i]), value]).filter(([, value]) => value);
    area.setAttribute("d", band(points.map(([at]) => at), points.map(([, v]) => y(v.low)), points.map(([, v]) => y(v.high))));
    line.setAttribute("d", path(points.map(([at, v]) => [at, y(v.accuracy)])));
    shown.textContent = points.length ? `${number(points[points.length - 1][1].accuracy)} %` : "–";
    svg.setAttribute("aria-label", `${plain(name)} at ${lamText()}: ` + points.map(([, v]) => `${number(v.accuracy)} %`).join(", "));
  };
}

/* ---- samples ---- */

function drawSamples() {
  const samples = data.samples;
  $("samples-section").hidden = !samples;
  if (!samples) return () => {};
  const chosen = samples.perturbations[$("sample-perturbation").value || 0], count = samples.classes.length;
  const label = `${plain(chosen.name)}${chosen.severity ? ` ${chosen.severity}` : ""}`;
  const frames = samples.classes.map((name, i) => [name, count > 1 ? `${(100 * i) / (count - 1)}% 0` : "0 0"]);
  const frame = ([name, position], what) => {
    const node = element("div", { class: samples.large ? "frame large" : "frame", role: "img" });
    node.style.backgroundPosition = position;
    return [node, (uri, text) => { node.style.backgroundImage = `url("${uri}")`; node.setAttribute("aria-label", `${name}, ${label}, ${what}${text}`); }];
  };
  const inputs = frames.map((entry) => frame(entry, "input")), rebuilt = frames.map((entry) => frame(entry, "reconstruction at "));
  inputs.forEach(([, set]) => set(chosen.input, ""));
  const title = element("span");
  const line = (head, cells) => { const node = element("div", { class: "row" }, head, ...cells); node.style.setProperty("--count", count); return node; };
  $("samples").replaceChildren(
    line(element("span", {}, "class"), samples.classes.map((name) => element("span", { class: "class" }, name))),
    line(element("span", {}, "input"), inputs.map(([node]) => node)), line(title, rebuilt.map(([node]) => node)));
  return () => {
    const at = samples.model === state.model.name ? samples.lambdas.indexOf(lam()) : -1;
    title.textContent = at < 0 ? `A z (${samples.model} only)` : `A z, ${lamText()}`;
    rebuilt.forEach(([node, set]) => { node.style.visibility = at < 0 ? "hidden" : ""; if (at >= 0) set(chosen.rebuilt[at], lamText()); });
  };
}

/* ---- the residual law ---- */

/* Outlines of Matplotlib's markers around (0, 0). */
const outlines = {
  o: "M5,0A5,5 0 1,1 -5,0A5,5 0 1,1 5,0Z", s: "M-4.5,-4.5H4.5V4.5H-4.5Z", "^": "M0,-5.5L5.5,4.5H-5.5Z",
  v: "M0,5.5L5.5,-4.5H-5.5Z", D: "M0,-6L6,0L0,6L-6,0Z", P: "M-2,-5.5H2V-2H5.5V2H2V5.5H-2V2H-5.5V-2H-2Z",
  X: "M-5,-2.5L-2.5,-5L0,-2.5L2.5,-5L5,-2.5L2.5,0L5,2.5L2.5,5L0,2.5L-2.5,5L-5,2.5L-2.5,0Z",
};
const shape = ({ marker, colour }, at, attributes = {}, ...children) =>
  element("path", { d: outlines[marker], fill: colour, transform: `translate(${at[0].toFixed(1)},${at[1].toFixed(1)})`, ...attributes }, ...children);

function drawLaw() {
  const law = data.laws[state.model.name], points = law?.families.flatMap((family) => family.points) ?? [];
  $("law-section").hidden = !points.length;
  if (!points.length) return () => {};
  const width = Math.max(320, $("law").clientWidth - 24), height = 320, edge = { left: 44, right: 12, top: 22, bottom: 40 };
  const residuals = points.map((p) => p.residual), left = 0.97 * Math.min(...residuals), right = 1.02 * Math.max(...residuals);
  const top = Math.max(law.highest, ...points.map((p) => p.lam), ...state.model.lambdas);
  const x = scale(left, right, edge.left, width - edge.right), y = scale(0, 1.05 * top, height - edge.bottom, edge.top);
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  for (const tick of ticks(0, top, 5)) {
    svg.append(element("line", { class: "grid", x1: edge.left, x2: width - edge.right, y1: y(tick), y2: y(tick) }));
    svg.append(element("text", { x: edge.left - 6, y: y(tick) + 4, "text-anchor": "end" }, `${tick}`));
  }
  for (const tick of ticks(left, right, width < 560 ? 3 : 6)) {
    svg.append(element("text", { x: x(tick), y: height - 22, "text-anchor": "middle" }, `${tick}`));
  }
  const title = "mean residual r = ‖x − Az‖² at the λ of training (normalised pixels)";
  svg.append(element("text", { x: width / 2, y: height - 4, "text-anchor": "middle" }, width < 560 ? "mean residual ‖x − Az‖²" : title));
  svg.append(element("text", { x: 4, y: 12 }, "best λ"));
  const clip = (r) => Math.min(law.highest, Math.max(law.lowest, law.slope * r + law.intercept));
  const along = Array.from({ length: 201 }, (_, i) => left + (i / 200) * (right - left));
  svg.append(element("path", { class: "line law", d: path(along.map((r) => [x(r), y(clip(r))])) }));
  for (const family of law.families) {
    if (family.line.length) {
      svg.append(element("path", { class: "line family", style: `stroke: ${family.colour}`, d: path(family.line.map(([r, at]) => [x(r), y(at)])) }));
    }
    for (const point of family.points) {
      const name = `${plain(family.noise)} ${point.severity || ""}: best λ ${point.lam}`;
      svg.append(shape(family, [x(point.residual), y(point.lam)], { "fill-opacity": point.fitted ? 0.9 : 0.25 }, element("title", {}, name)));
    }
  }
  const cursor = element("line", { class: "cursor moving", x1: edge.left, x2: width - edge.right, y1: 0, y2: 0 });
  const said = element("text", { class: "name moving", x: width - edge.right, y: -5, "text-anchor": "end" });
  svg.append(cursor, said);
  $("law").replaceChildren(svg, element("p", { class: "legend wide" }, ...law.families.map((family) => element("span", {},
    element("svg", { viewBox: "-7 -7 14 14", "aria-hidden": "true" }, shape(family, [0, 0])), plain(family.noise) + (family.equation && `: ${family.equation}`)))));
  $("law-note").textContent = law.note;
  return () => {
    const own = lam(), r = (own - law.intercept) / law.slope;
    cursor.style.transform = said.style.transform = `translateY(${y(own)}px)`;
    said.textContent = own < law.lowest || own > law.highest ? `${lamText()}: outside of the law` : `${lamText()}: where r is about ${Math.round(r)}`;
    svg.setAttribute("aria-label", `Best λ of ${points.length} noise levels against their mean residual, a line per noise and the law through all; ${said.textContent}`);
  };
}

/* ---- tables ---- */

/* A table that sorts by its heads; returns the function that shows other rows in the order that was chosen. */
function drawTable(container, columns) {
  let rows = [], order = null;
  const compare = (a, b) => {
    if (a === null || b === null) return (a !== null) - (b !== null);
    return typeof a === "number" ? a - b : String(a).localeCompare(String(b));
  };
  const body = element("tbody"), empty = element("p", { class: "note", style: "padding: 0 1rem" }, "Nothing to show.");
  const table = element("table", {}, element("thead", {}, element("tr", {}, ...columns.map(drawHead))), body);
  container.setAttribute("tabindex", "0");
  container.replaceChildren(table, empty);

  function drawHead(column) {
    const attributes = column.about ? { type: "button", title: column.about } : { type: "button" };
    const head = element("th", { scope: "col", class: column.text ? "text" : "", "aria-sort": "none" }, element("button", attributes, column.label));
    head.firstChild.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of head.parentElement.children) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      order = (a, b) => compare(a[column.key], b[column.key]) * (up ? 1 : -1);
      fill();
    });
    return head;
  }

  function drawCell(row, column) {
    const cell = element("td", { class: column.wrap ? "wrap" : column.text ? "text" : "" });
    const value = row[column.key], show = column.signed ? signed : number;
    if (column.mark && value) cell.append(element("span", { class: `mark ${value}` }, value));
    else if (value === null || value === "") cell.append("–");
    else cell.append(column.text || column.wrap ? plain(String(value)) : show(value, column.digits ?? 1));
    if (column.low && row[column.low] !== null) cell.append(" ", element("small", {}, range(row[column.low], row[column.high], show)));
    return cell;
  }

  function fill() {
    const sorted = order ? [...rows].sort(order) : rows;
    body.replaceChildren(...sorted.map((row) => element("tr", {}, ...columns.map((column) => drawCell(row, column)))));
    table.hidden = !rows.length;
    empty.hidden = rows.length > 0;
  }

  return (shown) => { rows = shown; fill(); };
}

const versusColumn = data.baseline
  ? [{ key: "versus", label: `against ${data.baseline}`, low: "versus_low", high: "versus_high", signed: true }] : [];
const gainColumn = { key: "gain", label: "against trained λ", low: "gain_low", high: "gain_high", signed: true };
const scores = { mce: "mCE", relative_mce: "relative mCE", mce_alexnet: "mCE (AlexNet)" };

function drawPolicies() {
  const given = Object.keys(scores).filter((key) => data.policies.some((row) => row[key] !== null));
  drawTable($("policies"), [
    { key: "model", label: "model", text: true }, { key: "policy", label: "policy", text: true },
    { key: "lam", label: "λ (mean)", digits: 3 }, { key: "clean", label: "clean %", low: "clean_low", high: "clean_high" },
    { key: "accuracy", label: "corrupted %", low: "low", high: "high" }, gainColumn, ...versusColumn,
    ...given.map((key) => ({ key, label: scores[key], low: `${key}_low`, high: `${key}_high` })),
    { key: "n", label: "n", digits: 0 },
  ])(data.policies);
  $("refused").textContent = data.refused.length ? `Not given: ${data.refused.join("; ")}.` : "";
}

function drawCells() {
  const show = drawTable($("cells"), [
    { key: "perturbation", label: "perturbation", text: true }, { key: "severity", label: "severity", digits: 0 },
    { key: "model", label: "model", text: true }, { key: "policy", label: "policy", text: true },
    { key: "lam", label: "λ (mean)", digits: 3 }, { key: "accuracy", label: "accuracy %", low: "low", high: "high" },
    gainColumn, ...versusColumn, { key: "ece", label: "ECE", digits: 3 }, { key: "nll", label: "NLL", digits: 3 },
    { key: "sparsity", label: "zeros in code %" }, { key: "residual", label: "‖x − Az‖²" }, { key: "n", label: "n", digits: 0 },
  ]);
  const filter = () => show(data.rows.filter((row) => row.perturbation === $("cell-filter").value));
  $("cell-filter").addEventListener("change", filter);
  filter();
}

function drawAttacks() {
  drawTable($("attacks"), [
    { key: "model", label: "model", text: true }, { key: "perturbation", label: "attack", text: true },
    { key: "norm", label: "norm", text: true }, { key: "eps", label: "ε", text: true }, { key: "threat", label: "threat", text: true },
    { key: "lam", label: "λ", text: true }, { key: "accuracy", label: "accuracy %", low: "low", high: "high" },
    { key: "n", label: "n", digits: 0 }, { key: "trust", label: "trust", mark: true }, { key: "trust_reason", label: "why", wrap: true },
  ])(data.attacks);
}

/* ---- wiring ---- */

const lamText = () => (lam() === undefined ? "no λ" : `λ = ${lam()}`);
let updates = [];

/* Everything anew, without the animation that belongs to a moved slider. */
function redraw() {
  document.body.classList.add("still");
  updates = [drawTiles, drawCorruptions(), drawCurves(), drawSamples(), drawLaw()];
  update();
  requestAnimationFrame(() => requestAnimationFrame(() => document.body.classList.remove("still")));
}

function update() {
  $("lam-value").textContent = lamText();
  $("lam").setAttribute("aria-valuetext", lamText());
  updates.forEach((step) => step());
}

function choose(index) {
  state.index = Math.max(0, Math.min(index, Math.max(state.model.lambdas.length - 1, 0)));
  $("lam").value = state.index;
  update();
}

function setModel(name) {
  state.model = subjects.find((model) => model.name === name);
  const { lambdas, trained: own } = state.model;
  $("lam").max = Math.max(lambdas.length - 1, 0);
  $("control").hidden = lambdas.length < 2 && subjects.length < 2;
  $("trained").hidden = !lambdas.includes(own);
  $("model").parentElement.hidden = subjects.length < 2;
  const sparse = Math.ceil(lambdas.length / 8);
  $("ticks").replaceChildren(...lambdas.map((value, i) => {
    const isTrained = value === own;
    const tick = element("span", { class: isTrained ? "trained" : "" }, i % sparse && !isTrained ? "" : isTrained ? `${value} trained` : `${value}`);
    tick.style.left = `${lambdas.length > 1 ? (100 * i) / (lambdas.length - 1) : 50}%`;
    return tick;
  }));
  state.index = Math.max(0, lambdas.indexOf(own));
  $("lam").value = state.index;
  redraw();
}

function fillSelect(select, entries) {
  select.replaceChildren(...entries.map(([value, label]) => element("option", { value }, label)));
}

function start() {
  fillSelect($("model"), subjects.map((model) => [model.name, model.name]));
  fillSelect($("cell-filter"), ["clean", ...names].map((name) => [name, plain(name)]));
  if (data.samples) fillSelect($("sample-perturbation"), data.samples.perturbations.map((p, i) => [i, `${plain(p.name)}${p.severity ? ` ${p.severity}` : ""}`]));
  const dots = [["model", "SDNet at this λ"], ["trained", "at its λ of training"], ...(data.baseline ? [["baseline", data.baseline]] : [])];
  $("legend").replaceChildren(...dots.map(([css, text]) => element("span", {}, element("i", { class: css }), text)));
  $("record").replaceChildren(...data.record.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
  $("rerun").textContent = data.rerun;
  $("cite").textContent = data.cite;
  $("attacks-section").hidden = !data.attacks.length;
  let player = 0;
  const stop = () => { clearInterval(player); player = 0; $("play").textContent = "play"; $("play").setAttribute("aria-pressed", "false"); };
  $("lam").addEventListener("input", (event) => choose(Number(event.target.value)));
  $("trained").addEventListener("click", () => choose(state.model.lambdas.indexOf(state.model.trained)));
  $("play").addEventListener("click", () => {
    if (player) return stop();
    $("play").textContent = "pause";
    $("play").setAttribute("aria-pressed", "true");
    choose(state.index + 1 < state.model.lambdas.length ? state.index : 0);
    player = setInterval(() => (state.index + 1 < state.model.lambdas.length ? choose(state.index + 1) : stop()), 900);
  });
  $("model").addEventListener("change", (event) => setModel(event.target.value));
  $("sample-perturbation").addEventListener("change", redraw);
  for (const [id, axis] of [["by-lam", "lam"], ["by-severity", "severity"]]) $(id).addEventListener("click", () => {
    state.axis = axis;
    for (const other of ["by-lam", "by-severity"]) $(other).setAttribute("aria-pressed", String(other === id));
    redraw();
  });
  let width = window.innerWidth;
  window.addEventListener("resize", () => { if (window.innerWidth !== width) { width = window.innerWidth; redraw(); } });
  setModel(subjects[0].name);
  drawPolicies();
  drawCells();
  drawAttacks();
}

start();
