/* ---- wiring ---- */

let updates = [];

/* Everything anew, without the animation that belongs to a moved slider. */
function redraw() {
  document.body.classList.add("still");
  updates = [drawTiles, drawCorruptions(), drawCurves(), drawSamples(), drawLaw(), drawBudgets()];
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
    const text = isTrained ? `${value} trained` : i % sparse ? "" : `${value}`;
    const place = i === 0 ? "first" : i === lambdas.length - 1 ? "last" : "";
    const tick = element("span", { class: `${place} ${isTrained ? "trained" : ""}` }, text);
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
  const title = ({ name, severity }) => `${plain(name)}${severity ? ` ${severity}` : ""}`;
  fillSelect($("sample-perturbation"), (data.samples?.perturbations ?? []).map((shown, i) => [i, title(shown)]));
  const other = data.baseline ? [["baseline", data.baseline]] : [];
  const dots = [["model", "the model at this λ"], ["trained", "at its λ of training"], ...other];
  $("legend").replaceChildren(...dots.map(([css, text]) => element("span", {}, element("i", { class: css }), text)));
  const fields = data.record.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]);
  $("record").replaceChildren(...fields);
  $("rerun").textContent = data.rerun;
  $("cite").textContent = data.cite;
  $("attacks-section").hidden = !data.attacks.length;
  for (const id of ["corruptions-section", "curves-section"]) $(id).hidden = !names.length;
  let player = 0;
  const stop = () => {
    clearInterval(player);
    player = 0;
    $("play").textContent = "play";
    $("play").setAttribute("aria-pressed", "false");
  };
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
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    redraw();
  });
  setModel(subjects[0].name);
  drawPolicies();
  drawCells();
  drawAttacks();
}

start();
