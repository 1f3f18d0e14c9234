
/* ---- attacks ---- */

const threats = {
  adaptive: "worst case over every λ", whitebox: "attacker knows λ", transfer: "attacker does not know λ",
};

/* Draws a panel per attack and norm: accuracy against ε at the chosen λ, from the natural accuracy at ε = 0. */
function drawBudgets() {
  const panels = [...new Set(data.attacks.map((row) => row.title))];
  const updates = panels.map((title) => {
    const rows = data.attacks.filter((row) => row.title === title);
    const caption = element("figcaption", {}, title);
    const figure = element("figure", { class: "panel" }, caption, element("svg", { role: "img" }));
    return [figure, () => figure.lastChild.replaceWith(drawBudget(title, rows))];
  });
  $("budgets").replaceChildren(...updates.map(([figure]) => figure));
  const entry = ([threat, text]) =>
    element("span", {}, element("i", { class: `threat ${threat}` }), `${threat}: ${text}`);
  const other = data.baseline ? [element("span", {}, element("i", { class: "threat other" }), data.baseline)] : [];
  const shown = Object.entries(threats).filter(([threat]) => data.attacks.some((row) => row.threat === threat));
  $("budgets-legend").replaceChildren(...shown.map(entry), ...other);
  return () => updates.forEach(([, update]) => update());
}

/* The axes of a panel, and a function that draws a line in it. */
function startBudget(rows) {
  const width = 340, height = 190, edge = { left: 30, right: 14, top: 10, bottom: 34 };
  const budgets = [...new Map(rows.map((row) => [row.budget, row.eps])).entries()].sort(([a], [b]) => a - b);
  const x = scale(0, budgets[budgets.length - 1][0], edge.left, width - edge.right);
  const y = scale(0, 100, height - edge.bottom, edge.top), spoken = [];
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  for (const tick of [0, 25, 50, 75, 100]) svg.append(...gridLine(tick, y(tick), edge.left, width - edge.right));
  for (const [at, label] of [[0, "0"], ...budgets]) {
    svg.append(element("text", { x: x(at), y: height - 18, "text-anchor": "middle" }, label));
  }
  svg.append(element("text", { x: (edge.left + width) / 2, y: height - 4, "text-anchor": "middle" }, "ε"));

  const draw = (model, at, threat, css, colour) => {
    const own = rows.filter((row) => row.model === model && row.at === at && !row.policy && row.threat === threat);
    if (!own.length) return;
    const index = data.models.find(({ name }) => name === model).lambdas.indexOf(at);
    const natural = values(model, "clean")[Math.max(index, 0)];
    const points = [...(natural ? [{ ...natural, budget: 0 }] : []), ...own.sort((a, b) => a.budget - b.budget)];
    const xs = points.map((point) => x(point.budget));
    if (threat === "adaptive" || css === "other" || colour) {
      const [lows, highs] = ["low", "high"].map((end) => points.map((point) => y(point[end])));
      const area = element("path", { class: `band ${css}`, d: band(xs, lows, highs) });
      if (colour) area.style.cssText = `fill: ${colour}; opacity: .1`;
      svg.append(area);
    }
    const line = element("path", { class: `line threat ${css}`, d: path(points.map((p, i) => [xs[i], y(p.accuracy)])) });
    if (colour) line.style.stroke = colour;
    svg.append(line);
    for (const point of own.filter((row) => row.trust !== "OK")) {
      const why = element("title", {}, `${point.trust}: ${point.trust_reason}`);
      const transform = `translate(${x(point.budget)},${y(point.accuracy)})`;
      svg.append(element("path", { class: "cross", d: "M-4,-4L4,4M-4,4L4,-4", transform }, why));
    }
    spoken.push(`${model} ${threat} ` + own.map((row) => `${percent(row.accuracy)} at ${row.eps}`).join(", "));
  };
  return [svg, draw, spoken];
}

function drawBudget(title, rows) {
  const [svg, draw, spoken] = startBudget(rows);
  const other = data.models.find(({ name }) => name === data.baseline);
  if (other && other.name !== state.model.name) draw(other.name, other.trained, "whitebox", "other");
  for (const threat of ["transfer", "whitebox", "adaptive"]) draw(state.model.name, lam() ?? null, threat, threat);
  svg.setAttribute("aria-label", `${title} at ${lamText()}: ${spoken.join("; ")}`);
  return svg;
}

function drawAttacks() {
  const columns = [
    { key: "model", label: "model", text: true }, { key: "order", display: "attack", label: "attack", text: true },
    ...(hasLam ? [{ key: "threat", label: "threat", text: true }, { key: "lam", label: "λ", text: true }] : []),
    { key: "accuracy", label: "accuracy %", low: "low", high: "high" }, { key: "n", label: "n", digits: 0 },
    { key: "trust", label: "trust", mark: true }, { key: "trust_reason", label: "why", wrap: true },
  ];
  const rows = data.attacks.map((row) => {
    const attack = `${row.perturbation} ${row.norm}`;
    return { ...row, attack: `${attack} ${row.eps}`, order: `${attack} ${row.budget.toFixed(9).padStart(20)}` };
  });
  drawTable($("attacks"), useful(columns, rows))(rows);
}
