
/* ---- tiles ---- */

function drawTiles() {
  const clean = now("clean"), mean = now(data.mean);
  const difference = (value, name) => [
    signed(value[name]), range(value[`${name}_low`], value[`${name}_high`], signed), mood(value, name),
  ];
  const tiles = accuracyTiles(clean, mean);
  if (mean) {
    const title = "points against its training λ";
    if (mean.gain !== null && lam() !== state.model.trained) {
      tiles.push([`${title}, ${state.model.trained}`, ...difference(mean, "gain")]);
    } else if (mean.gain !== null) tiles.push([title, "–", "this is the training λ", ""]);
    if (mean.versus !== null) tiles.push([`points against ${data.baseline}`, ...difference(mean, "versus")]);
  }
  showTiles([...tiles, ...otherTiles(state.model.name, lam() ?? null)]);
}

function accuracyTiles(clean, mean) {
  const named = [["clean accuracy (%)", clean], [`mean of ${data.count} corruptions (%)`, mean]];
  return named.filter(([, value]) => value)
    .map(([name, value]) => [name, number(value.accuracy), range(value.low, value.high), ""]);
}

/* Tiles beyond the accuracies of a model at one λ; λ is null for a model without one. */
function otherTiles(model, at) {
  return [steadyTiles, errorTiles, robustTiles].flatMap((part) => part(model, at));
}

/* The share of frames that keep their class along perturbation sequences, for a model at one λ. */
function steadyTiles(model, at) {
  return data.sequences.filter((row) => row.model === model && row.lam === at && row.sequence === data.sequence_mean)
    .map((row) => ["frames of the same class (%)", number(100 - row.flips), range(100 - row.flips_high, 100 - row.flips_low), ""]);
}

/* The mCE of a model at one λ. */
function errorTiles(model, at) {
  const isOwn = (row) => row.model === model && row.lam === at && ["none", "fixed"].includes(row.policy);
  return data.policies.filter((row) => isOwn(row) && row.mce_alexnet !== null)
    .map((row) => [scores.mce_alexnet, number(row.mce_alexnet), range(row.mce_alexnet_low, row.mce_alexnet_high), ""]);
}

/* The worst case of a model at one λ, at the largest ε of every norm. */
function robustTiles(model, at) {
  const own = data.worst.filter((row) => row.model === model && row.lam === at);
  const largest = own.filter((row) => !own.some((other) => other.norm === row.norm && other.eps > row.eps));
  return largest.map((row) => {
    const mark = row.trust === "OK" ? "" : ` ${row.trust}`;
    return [`robust within ${row.title} (%)`, number(row.accuracy), range(row.low, row.high) + mark, ""];
  });
}

function showTiles(tiles) {
  $("tiles").hidden = !tiles.length;
  $("tiles").replaceChildren(...tiles.map(([name, value, interval, css]) =>
    element("div", { class: "tile" },
      element("span", { class: "name" }, name),
      element("strong", { class: `value ${css}` }, value),
      element("span", { class: "range" }, interval.startsWith("[") ? `95\u00a0% ${interval}` : interval))));
}

/* ---- every corruption ---- */

/* The axes of a chart with a row per corruption; every row has its name, and `y` at its middle. */
function startRows(height, right) {
  const width = Math.max(320, $("corruptions").clientWidth - 24), narrow = width < 560, top = 26, head = 25;
  const x = scale(floor, 100, narrow ? 112 : 168, width - right(narrow)), rows = [], labels = [];
  let y = top;
  for (const [group, members] of data.groups) {
    labels.push(element("text", { class: "group", x: 4, y: y + head / 2 + 7 }, group.toUpperCase()));
    y += head;
    for (const name of members) {
      labels.push(element("text", { class: "name", x: 4, y: y + height / 2 + 4 }, plain(name)));
      rows.push({ name, y: y + height / 2 });
      y += height;
    }
  }
  const svg = element("svg", { viewBox: `0 0 ${width} ${y + 8}`, role: "img" });
  for (let tick = floor; tick <= 100; tick += 100 - floor > 50 ? 20 : 10) {
    svg.append(element("line", { class: "grid", x1: x(tick), x2: x(tick), y1: top - 6, y2: y + 4 }));
    svg.append(element("text", { x: x(tick), y: 12, "text-anchor": "middle" }, `${tick}\u00a0%`));
  }
  svg.append(...labels);
  return { svg, rows, x, width, narrow };
}

function drawCorruptions() {
  const { svg, rows, x, width, narrow } = startRows(25, (isNarrow) => (isNarrow ? 44 : 108));
  if (!narrow) svg.append(element("text", { x: width - 4, y: 12, "text-anchor": "end" }, "gain"));
  const marks = {};
  for (const { name, y } of rows) {
    const reference = baseline(name), own = trained(name);
    const link = element("line", { class: "link", y1: y, y2: y });
    svg.append(link);
    if (reference) {
      const ends = { x1: x(reference.low), x2: x(reference.high), y1: y, y2: y };
      svg.append(element("line", { class: "interval baseline", ...ends }));
      svg.append(element("circle", { class: "dot baseline", cx: x(reference.accuracy), cy: y, r: 4.5 }));
    }
    if (own) svg.append(element("circle", { class: "dot trained", cx: x(own.accuracy), cy: y, r: 7 }));
    const interval = element("line", { class: "interval", y1: y, y2: y });
    const dot = element("circle", { class: "dot moving", r: 5.5 });
    const value = element("text", { x: width - (narrow ? 4 : 64), y: y + 4, "text-anchor": "end", class: "name" });
    const gain = element("text", { x: width - 4, y: y + 4, "text-anchor": "end" });
    svg.append(interval, dot, value);
    if (!narrow) svg.append(gain);
    marks[name] = { link, interval, dot, value, gain, y, reference };
  }
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
    const spoken = names.map((name) => `${plain(name)} ${percent(now(name)?.accuracy ?? null)}`).join(", ");
    svg.setAttribute("aria-label", `Accuracy of ${state.model.name} at ${lamText()} per corruption: ${spoken}`);
  };
}

/* ---- small panels ---- */

/* The range of accuracies in a panel, rounded outwards to whole tens. */
function domain(name) {
  const models = [state.model.name, data.baseline].filter(Boolean);
  const bySeverity = (model) => data.cells[model]?.[name]?.values.flat() ?? [];
  const everywhere = (model) => (state.axis === "lam" ? values(model, name) : bySeverity(model));
  const shown = models.flatMap(everywhere).filter(Boolean);
  const lows = shown.map((value) => value.low), highs = shown.map((value) => value.high);
  const high = Math.min(100, 10 * Math.ceil(Math.max(...highs) / 10));
  return [Math.min(10 * Math.floor(Math.min(...lows) / 10), high - 20), high];
}

function drawCurves() {
  const width = 210, height = 130, edge = { left: 28, right: 10, top: 8, bottom: 20 };
  const updates = [];
  const perturbations = state.axis === "lam" ? ["clean", ...names] : names;
  const panels = perturbations.filter((name) => values(state.model.name, name).some(Boolean)).map((name) => {
    const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
    const shown = element("span");
    const severities = data.cells[state.model.name]?.[name]?.severities ?? [];
    const positions = state.axis === "lam" ? state.model.lambdas : severities;
    const x = scale(Math.min(...positions), Math.max(...positions), edge.left, width - edge.right);
    const [low, high] = domain(name), y = scale(low, high, height - edge.bottom, edge.top);
    for (const tick of [low, (low + high) / 2, high]) {
      svg.append(...gridLine(tick, y(tick), edge.left, width - edge.right));
    }
    const ends = state.axis === "lam" ? [positions[0], positions[positions.length - 1]] : positions;
    for (const tick of new Set(ends)) {
      svg.append(element("text", { x: x(tick), y: height - 4, "text-anchor": "middle" }, `${tick}`));
    }
    updates.push((state.axis === "lam" ? curveAgainstLam : curveAgainstSeverity)(svg, name, x, y, shown));
    return element("figure", { class: "panel" }, element("figcaption", {}, plain(name), shown), svg);
  });
  $("curves").replaceChildren(...panels);
  const dashed = data.baseline ? `; dashed: ${data.baseline}.` : ".";
  const grey = state.model.trained === null ? "" : ", in grey at its training λ";
  $("curves-note").textContent = state.axis === "lam"
    ? `Mean accuracy (%) of ${state.model.name} over the severities, 95\u00a0% bands, every panel with its own scale${dashed}`
    : `Accuracy (%) at every severity: ${state.model.name} at the chosen λ${grey}${dashed}`;
  return () => updates.forEach((update) => update());
}

function curveAgainstLam(svg, name, x, y, shown) {
  const measured = values(state.model.name, name).map((value, i) => [state.model.lambdas[i] ?? 0, value]);
  const points = measured.filter(([, value]) => value);
  const xs = points.map(([at]) => x(at)), reference = baseline(name);
  const area = band(xs, points.map(([, v]) => y(v.low)), points.map(([, v]) => y(v.high)));
  svg.append(element("path", { class: "band", d: area }));
  if (reference) {
    const at = y(reference.accuracy);
    svg.append(element("line", { class: "line baseline", x1: 28, x2: 200, y1: at, y2: at }));
  }
  svg.append(element("path", { class: "line", d: path(points.map(([, v], i) => [xs[i], y(v.accuracy)])) }));
  const cursor = element("line", { class: "cursor moving", x1: 0, x2: 0, y1: 8, y2: 110 });
  const dot = element("circle", { class: "dot moving", r: 4.5 });
  svg.append(cursor, dot);
  return () => {
    const value = now(name), at = x(lam() ?? 0);
    cursor.style.transform = `translateX(${at}px)`;
    dot.style.opacity = value ? 1 : 0;
    if (value) dot.style.transform = `translate(${at}px, ${y(value.accuracy)}px)`;
    shown.textContent = percent(value && value.accuracy);
    const other = reference ? `; ${data.baseline} ${percent(reference.accuracy)}` : "";
    svg.setAttribute("aria-label", `${plain(name)}: ${shown.textContent} at ${lamText()}${other}`);
  };
}

function curveAgainstSeverity(svg, name, x, y, shown) {
  const table = data.cells[state.model.name][name], other = data.cells[data.baseline]?.[name];
  const pairs = (row) => row.map((value, i) => [x(table.severities[i]), value]).filter(([, value]) => value);
  const outline = (row) => path(pairs(row).map(([at, v]) => [at, y(v.accuracy)]));
  const draw = (row, css) => element("path", { class: `line ${css}`, d: outline(row) });
  if (other && data.baseline !== state.model.name) svg.append(draw(other.values[data.baseline_index], "baseline"));
  const own = table.values[state.model.lambdas.indexOf(state.model.trained)];
  if (own) svg.append(draw(own, "trained"));
  const area = element("path", { class: "band" }), line = element("path", { class: "line" });
  svg.append(area, line);
  return () => {
    const row = table.values[state.index], points = pairs(row);
    const lows = points.map(([, v]) => y(v.low)), highs = points.map(([, v]) => y(v.high));
    area.setAttribute("d", band(points.map(([at]) => at), lows, highs));
    line.setAttribute("d", outline(row));
    shown.textContent = points.length ? percent(points[points.length - 1][1].accuracy) : "–";
    const spoken = points.map(([, v]) => percent(v.accuracy)).join(", ");
    svg.setAttribute("aria-label", `${plain(name)} at ${lamText()}: ${spoken}`);
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
    const set = (uri, text) => {
      node.style.backgroundImage = `url("${uri}")`;
      node.setAttribute("aria-label", `${name}, ${label}, ${what}${text}`);
    };
    return [node, set];
  };
  const isPlain = !samples.lambdas.length;
  const inputs = frames.map((entry) => frame(entry, "input"));
  const rebuilt = frames.map((entry) => frame(entry, "reconstruction at "));
  inputs.forEach(([, set]) => set(chosen.input, ""));
  const title = element("span");
  const line = (head, cells) => {
    const node = element("div", { class: "row" }, head, ...cells);
    node.style.setProperty("--count", count);
    return node;
  };
  $("samples").replaceChildren(
    line(element("span", {}, "class"), samples.classes.map((name) => element("span", { class: "class" }, name))),
    line(element("span", {}, "input"), inputs.map(([node]) => node)),
    ...(isPlain ? [] : [line(title, rebuilt.map(([node]) => node))]));
  if (isPlain) return () => {};
  return () => {
    const isShown = samples.model === state.model.name;
    const distances = samples.lambdas.map((kept) => Math.abs(kept - lam()));
    const at = distances.indexOf(Math.min(...distances)), text = `λ = ${samples.lambdas[at]}`;
    title.textContent = isShown ? `A z, ${text}${distances[at] ? " (nearest)" : ""}` : `A z (${samples.model} only)`;
    for (const [node, set] of rebuilt) {
      node.style.visibility = isShown ? "" : "hidden";
      if (isShown) set(chosen.rebuilt[at], text);
    }
  };
}

