/* ---- models without λ, side by side ---- */

const mostShown = 8;
/* The leading models with results under a perturbation, eight at most. */
const contestants = data.board.rows.map((row) => row.model).slice(0, mostShown);
const atSeverities = (model, name) => {
  const table = data.cells[model]?.[name];
  const pairs = (table?.values[0] ?? []).map((value, i) => [table.severities[i], value]);
  return pairs.filter(([, value]) => value);
};
const modelLegend = () => [
  ...contestants.map((name) => element("span", {}, dot(name), name)),
  ...(data.models.length > mostShown ? [element("span", {}, `the first ${mostShown} of ${data.models.length}`)] : []),
];

function drawContest() {
  drawGlance();
  drawAllCorruptions();
  drawAllCurves();
  drawAllBudgets();
  drawSamples();
}

/* The tiles of a single model; several models have the table instead. */
function drawGlance() {
  const [model] = contestants, isAlone = contestants.length === 1;
  const own = () => [...accuracyTiles(values(model, "clean")[0], values(model, data.mean)[0]), ...otherTiles(model, null)];
  showTiles(isAlone ? own() : []);
}

function drawAllCorruptions() {
  const { svg, rows, x } = startRows(Math.max(25, 9 * contestants.length + 9), () => 16), spoken = [];
  for (const { name, y } of rows) contestants.forEach((model, i) => {
    const value = values(model, name)[0], at = y + 9 * (i - (contestants.length - 1) / 2);
    if (!value) return;
    const bar = element("line", { class: "interval", x1: x(value.low), x2: x(value.high), y1: at, y2: at });
    const mark = element("circle", { class: "dot", cx: x(value.accuracy), cy: at, r: 4 });
    bar.style.stroke = mark.style.fill = tint(model);
    mark.append(element("title", {}, `${model}: ${percent(value.accuracy)} ${range(value.low, value.high)}`));
    svg.append(bar, mark);
    spoken.push(`${plain(name)} ${model} ${percent(value.accuracy)}`);
  });
  svg.setAttribute("aria-label", `Accuracy per corruption: ${spoken.join(", ")}`);
  $("corruptions").replaceChildren(svg);
}

function drawAllCurves() {
  const width = 210, height = 130, edge = { left: 28, right: 10, top: 8, bottom: 20 };
  const panels = names.map((name) => {
    const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
    const lines = contestants.map((model) => [model, atSeverities(model, name)]).filter(([, points]) => points.length);
    const shown = lines.flatMap(([, points]) => points), levels = [...new Set(shown.map(([level]) => level))].sort();
    const low = 10 * Math.floor(Math.min(...shown.map(([, v]) => v.low)) / 10);
    const high = Math.min(100, 10 * Math.ceil(Math.max(...shown.map(([, v]) => v.high)) / 10));
    const x = scale(levels[0], levels[levels.length - 1], edge.left + 6, width - edge.right);
    const y = scale(Math.min(low, high - 20), high, height - edge.bottom, edge.top);
    for (const tick of ticks(Math.min(low, high - 20), high, 3)) {
      svg.append(...gridLine(tick, y(tick), edge.left, width - edge.right));
    }
    for (const level of levels) svg.append(element("text", { x: x(level), y: height - 4, "text-anchor": "middle" }, `${level}`));
    for (const [model, points] of lines) {
      const xs = points.map(([level]) => x(level)), colour = tint(model);
      if (lines.length <= 3) {
        const area = element("path", { d: band(xs, points.map(([, v]) => y(v.low)), points.map(([, v]) => y(v.high))) });
        area.style.cssText = `fill: ${colour}; opacity: .13`;
        svg.append(area);
      }
      const line = element("path", { class: "line", d: path(points.map(([, v], i) => [xs[i], y(v.accuracy)])) });
      line.style.stroke = colour;
      svg.append(line, ...points.map(([level, v]) => {
        const mark = element("circle", { class: "dot", cx: x(level), cy: y(v.accuracy), r: 3 });
        mark.style.fill = colour;
        return mark;
      }));
    }
    const spoken = lines.map(([model, points]) => `${model} ${points.map(([, v]) => percent(v.accuracy)).join(", ")}`);
    svg.setAttribute("aria-label", `${plain(name)} at severities ${levels.join(", ")}: ${spoken.join("; ")}`);
    return element("figure", { class: "panel" }, element("figcaption", {}, plain(name)), svg);
  });
  $("curves").replaceChildren(...panels);
  $("curves-note").replaceChildren("Accuracy (%) at every severity, every panel with its own scale. ",
    element("span", { class: "legend" }, ...modelLegend()));
}

function drawAllBudgets() {
  const panels = [...new Set(data.attacks.map((row) => row.title))].map((title) => {
    const rows = data.attacks.filter((row) => row.title === title && contestants.includes(row.model));
    const [svg, draw] = startBudget(rows);
    for (const model of contestants) draw(model, null, "whitebox", "", tint(model));
    svg.setAttribute("aria-label", `${title}: ${rows.map((row) => `${row.model} ${percent(row.accuracy)} at ${row.eps}`).join("; ")}`);
    return element("figure", { class: "panel" }, element("figcaption", {}, title), svg);
  });
  $("budgets").replaceChildren(...panels);
  $("budgets-legend").replaceChildren(...modelLegend());
}

/* ---- all models in one table ---- */

function drawBoard() {
  const { rows, measure, threats } = data.board;
  $("board-section").hidden = rows.length < 2;
  const told = { mean: data.mean, shifts: "accuracy on the images of all natural shifts", steady: "the share of frames that keep their class", clean: "accuracy on clean images" }[measure] ?? `the worst case within ${Object.fromEntries(threats)[measure]}`;
  $("board-note").textContent = `Ordered by ${told}, shown ${hasLam ? "at the training λ" : "with 95\u00a0% intervals"}. A rank is the `
    + "range of places that a model may have: one counts as better than another only where the difference, paired over the images, "
    + "has p\u00a0<\u00a00.05 after Holm's adjustment for all pairs. Bold: may be the first.";
  const short = rows.map(({ alike, ...row }) => ({
    ...row, leads: row.rank_from === 1, alike: alike.length > 4 ? `${alike.length} models` : alike.join(", "),
  }));
  const ranked = (columns) => columns.map((column) => ({ ...column, low: `${column.key}_low`, high: `${column.key}_high`, leads: column.key === measure && "leads" }));
  const columns = [
    { key: "model", label: "model", text: true }, { key: "rank_from", label: "rank", display: "rank" }, { key: "lam", label: "λ", digits: 2 }, { key: "n", label: "n", digits: 0 },
    ...ranked([
      { key: "clean", label: "clean %" }, { key: "mean", label: "corrupted %" },
      { key: "shifts", label: "natural shifts %" }, { key: "steady", label: "frames of the same class %" }, { key: "clean_top5", label: "clean, top 5 %" }, { key: "mean_top5", label: "corrupted, top 5 %" },
      ...threats.map(([key, title]) => ({ key, label: `robust ${title} %`, trust: `${key}_trust` })),
      ...Object.keys(scores).map((key) => ({ key, label: scores[key] })),
    ]),
    { key: "alike", label: "not told apart from", wrap: true },
  ];
  drawTable($("board"), useful(columns, short))(short);
}

function drawShifts() {
  $("shifts-section").hidden = !data.shifts.length;
  const protocols = new Map(data.shifts.map((row) => [row.shift, row.protocol]));
  $("shifts-note").textContent = `${[...protocols].map(([title, how]) => `${title}: ${how}`).join(". ")}. ${data.shift_note}`;
  const columns = [
    { key: "shift", label: "set", display: "shift", text: true }, { key: "model", label: "model", text: true },
    { key: "lam", label: "λ", digits: 2 }, { key: "n", label: "n", digits: 0 },
    { key: "accuracy", label: "under shift %", low: "ci_low", high: "ci_high" }, { key: "clean_n", label: "n clean", digits: 0 },
    { key: "clean_accuracy", label: "clean, same classes %", low: "clean_ci_low", high: "clean_ci_high" },
    { key: "effective_robustness", label: "effective robustness", signed: true },
  ];
  drawTable($("shifts"), useful(columns, data.shifts))(data.shifts);
}

function drawSequences() {
  $("sequences-section").hidden = !data.sequences.length;
  $("sequences-note").textContent = data.sequence_note;
  const measures = { flips: "flips %", distance: "top-5 distance", flip_rate: "flip rate %", distance_rate: "distance rate %" };
  const columns = [
    { key: "sequence", label: "sequence", text: true }, { key: "difficulty", label: "difficulty", digits: 0 },
    { key: "model", label: "model", text: true }, { key: "lam", label: "λ", digits: 2 }, { key: "n", label: "n", digits: 0 },
    ...Object.entries(measures).map(([key, label]) => ({ key, label, low: `${key}_low`, high: `${key}_high`, digits: 2 })),
  ];
  drawTable($("sequences"), useful(columns, data.sequences))(data.sequences);
}

function drawClasses() {
  const models = Object.keys(data.classes);
  $("classes-section").hidden = !models.length;
  fillSelect($("class-model"), models.map((name) => [name, name]));
  $("class-model").parentElement.hidden = models.length < 2;
  $("classes-note").textContent = "Accuracy (%) on the images of each class" + (hasLam ? ", at the training λ." : ".");
  const columns = [
    { key: "class", label: "class", text: true }, { key: "n", label: "n", digits: 0 },
    { key: "clean", label: "clean %", low: "clean_low", high: "clean_high" },
    { key: "mean", label: "corrupted %", low: "mean_low", high: "mean_high" },
  ];
  if (!models.length) return;
  const show = drawTable($("classes"), useful(columns, data.classes[models[0]]));
  const choose = () => show(data.classes[$("class-model").value]);
  $("class-model").addEventListener("change", choose);
  choose();
}

