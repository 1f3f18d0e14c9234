/* ---- tables ---- */

const markOf = (mark) => element("span", { class: `mark ${mark}` }, mark);

/* Builds a table that sorts by its heads; returns a function that shows other rows in the chosen order. */
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
    const button = element("button", attributes, column.label);
    const head = element("th", { scope: "col", class: column.text || column.wrap ? "text" : "", "aria-sort": "none" }, button);
    button.addEventListener("click", () => {
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
    const value = column.display ? row[column.display] : row[column.key], show = column.signed ? signed : number;
    if (String(value).length > 24) cell.classList.add("long");
    if (column.key === "model" && colours[value]) cell.append(dot(value));
    if (column.leads && row[column.leads]) cell.classList.add("leading");
    if (column.mark && value) cell.append(markOf(value));
    else if (value === null || value === "") cell.append("–");
    else if (column.display || column.key === "model" || column.key === "class") cell.append(String(value));
    else cell.append(column.text || column.wrap ? plain(String(value)) : show(value, column.digits ?? 1));
    if (column.trust && row[column.trust] && row[column.trust] !== "OK") cell.append(" ", markOf(row[column.trust]));
    const low = column.low ? row[column.low] ?? null : null;
    if (low !== null) cell.append(" ", element("small", {}, range(low, row[column.high], show)));
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

const terms = {
  gain: "paired difference from the same model at its training λ, in points",
  versus: "paired difference from the baseline model, in points",
  ece: "expected calibration error: mean gap between confidence and accuracy, 15 bins",
  calibration: "root mean square gap between confidence and accuracy, without the part that chance makes",
  nll: "negative log-likelihood: mean of −log p of the right class",
  mce: "corruption errors in % of the errors of the run's baseline model, mean over the 15 corruptions; not the mCE of the literature",
  relative_mce: "the same of the errors that corruption adds to those on clean images",
  mce_alexnet: "mean corruption error against AlexNet's published errors",
};
const versusColumn = data.baseline
  ? [{ key: "versus", label: `against ${data.baseline}`, low: "versus_low", high: "versus_high", signed: true }] : [];
const gainColumn = { key: "gain", label: "gain on trained λ", low: "gain_low", high: "gain_high", signed: true };
const scores = {
  mce: `errors in % of ${data.baseline}'s`, relative_mce: `added errors in % of ${data.baseline}'s`, mce_alexnet: "mCE (AlexNet)",
};
/* Hides columns without values and explains the others. */
const useful = (columns, rows) => columns.filter(({ key }) => rows.some((row) => row[key] !== null && row[key] !== ""))
  .map((column) => ({ about: terms[column.key], ...column }));

function drawPolicies() {
  $("policies-section").hidden = !hasLam;
  const columns = [
    { key: "model", label: "model", text: true }, { key: "policy", label: "policy", text: true },
    { key: "lam", label: "λ (mean)", digits: 3 }, { key: "n", label: "n", digits: 0 },
    { key: "clean", label: "clean %", low: "clean_low", high: "clean_high" },
    { key: "accuracy", label: "corrupted %", low: "low", high: "high" }, gainColumn, ...versusColumn,
    ...Object.keys(scores).map((key) => ({ key, label: scores[key], low: `${key}_low`, high: `${key}_high` })),
  ];
  drawTable($("policies"), useful(columns, data.policies))(data.policies);
  $("policies-note").textContent = data.mean ? `Corrupted: the mean over ${data.count} corruptions. ` : "";
  $("refused").textContent = names.length && data.refused.length ? `Not given: ${data.refused.join("; ")}.` : "";
}

function drawCells() {
  const columns = [
    { key: "perturbation", label: "perturbation", text: true }, { key: "severity", label: "severity", digits: 0 },
    { key: "model", label: "model", text: true }, ...(hasLam ? [{ key: "policy", label: "policy", text: true }] : []),
    { key: "lam", label: "λ (mean)", digits: 3 }, { key: "accuracy", label: "accuracy %", low: "low", high: "high" },
    { key: "n", label: "n", digits: 0 }, gainColumn, ...versusColumn, { key: "calibration", label: "calibration error %", low: "calibration_low", high: "calibration_high" },
    { key: "ece", label: "ECE", digits: 3 }, { key: "nll", label: "NLL", digits: 3 },
    { key: "sparsity", label: "zeros in code %" }, { key: "residual", label: "‖x − Az‖²" },
  ];
  const show = drawTable($("cells"), useful(columns, data.rows));
  const filter = () => show(data.rows.filter((row) => row.perturbation === $("cell-filter").value));
  $("cell-filter").addEventListener("change", filter);
  filter();
}
