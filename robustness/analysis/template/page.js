/* ---- wiring ---- */

let updates = [];

/* Redraws everything without the animation of a moved slider. */
function redraw() {
  if (!hasLam) return drawContest();
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
  $("control").hidden = !hasLam;
  if (!hasLam) return redraw();
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

/* The text of the sections, with λ and without. */
function tell() {
  const say = (id, text) => { $(id).textContent = text; };
  say("h-corruptions", hasLam ? "Every corruption at this λ" : "Every corruption");
  say("h-curves", hasLam ? "What λ does, corruption by corruption" : "Severity by severity");
  say("h-samples", hasLam ? "What the model keeps of an image" : "What the corruptions do to an image");
  say("gain-note", hasLam ? "Gain: the paired difference from the training λ, in points; in colour where its interval excludes zero and "
    + "p < 0.05 after Holm's adjustment for the corruptions." : "");
  say("budgets-where", hasLam ? ", at the λ of the slider" : "");
  say("samples-note", hasLam ? "Above: the input. Below: its reconstruction A z from the sparse code at this λ, or at the nearest that has pictures." : "At the highest severity that was measured.");
  say("cells-note", "Calibration error: root mean square gap between confidence and accuracy without the part that chance makes; ECE: the expected calibration error (15 bins), which chance makes larger on few images. NLL: mean negative log-likelihood of the right class."
    + (hasLam ? " ‖x − Az‖²: what the sparse code leaves out of the image, in normalised pixels." : ""));
  $("curves-axis").hidden = !hasLam;
  $("law-section").hidden = !hasLam;
  const missing = Object.entries(data.missing);
  $("missing").hidden = !missing.length;
  $("missing").replaceChildren(...missing.map(([reason, places]) => element("p", { class: "note" },
    `Missing (${reason}): ${places.slice(0, 12).join("; ")}${places.length > 12 ? `; and ${places.length - 12} more` : ""}.`)));
}

function start() {
  tell();
  fillSelect($("model"), subjects.map((model) => [model.name, model.name]));
  fillSelect($("cell-filter"), ["clean", ...names].map((name) => [name, plain(name)]));
  const title = ({ name, severity }) => `${plain(name)}${severity ? ` ${severity}` : ""}`;
  fillSelect($("sample-perturbation"), (data.samples?.perturbations ?? []).map((shown, i) => [i, title(shown)]));
  const other = data.baseline ? [["baseline", data.baseline]] : [];
  const dots = [["model", "the model at this λ"], ["trained", "at its training λ"], ...other];
  const roles = dots.map(([css, text]) => element("span", {}, element("i", { class: css }), text));
  $("legend").replaceChildren(...(hasLam ? roles : modelLegend()));
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
  drawBoard();
  drawShifts();
  drawSequences();
  drawClasses();
  drawPolicies();
  drawCells();
  drawAttacks();
}

start();
