/* ---- the residual law ---- */

/* Outlines of Matplotlib's markers around (0, 0). */
const outlines = {
  o: "M5,0A5,5 0 1,1 -5,0A5,5 0 1,1 5,0Z", s: "M-4.5,-4.5H4.5V4.5H-4.5Z", "^": "M0,-5.5L5.5,4.5H-5.5Z",
  v: "M0,5.5L5.5,-4.5H-5.5Z", D: "M0,-6L6,0L0,6L-6,0Z", P: "M-2,-5.5H2V-2H5.5V2H2V5.5H-2V2H-5.5V-2H-2Z",
  X: "M-5,-2.5L-2.5,-5L0,-2.5L2.5,-5L5,-2.5L2.5,0L5,2.5L2.5,5L0,2.5L-2.5,5L-5,2.5L-2.5,0Z",
};
function shape({ marker, colour }, [x, y], attributes = {}, ...children) {
  const place = { d: outlines[marker], fill: colour, transform: `translate(${x.toFixed(1)},${y.toFixed(1)})` };
  return element("path", { ...place, ...attributes }, ...children);
}

function drawLaw() {
  const law = data.laws[state.model.name], points = law?.families.flatMap((family) => family.points) ?? [];
  $("law-section").hidden = !points.length;
  if (!points.length) return () => {};
  const width = Math.max(320, $("law").clientWidth - 24), height = 320;
  const edge = { left: 44, right: 12, top: 22, bottom: 40 }, residuals = points.map((p) => p.residual);
  const left = 0.97 * Math.min(...residuals), right = 1.02 * Math.max(...residuals);
  const top = Math.max(law.highest, ...points.map((p) => p.lam), ...state.model.lambdas);
  const x = scale(left, right, edge.left, width - edge.right), y = scale(0, 1.05 * top, height - edge.bottom, edge.top);
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  for (const tick of ticks(0, top, 5)) svg.append(...gridLine(tick, y(tick), edge.left, width - edge.right));
  for (const tick of ticks(left, right, width < 560 ? 3 : 6)) {
    svg.append(element("text", { x: x(tick), y: height - 22, "text-anchor": "middle" }, `${tick}`));
  }
  const long = "mean residual r = ‖x − Az‖² at the training λ (normalised pixels)";
  const title = width < 560 ? "mean residual ‖x − Az‖²" : long;
  svg.append(element("text", { x: width / 2, y: height - 4, "text-anchor": "middle" }, title));
  svg.append(element("text", { x: 4, y: 12 }, "best λ"));
  const clip = (r) => Math.min(law.highest, Math.max(law.lowest, law.slope * r + law.intercept));
  const along = Array.from({ length: 201 }, (_, i) => left + (i / 200) * (right - left));
  svg.append(element("path", { class: "line law", d: path(along.map((r) => [x(r), y(clip(r))])) }));
  for (const family of law.families) {
    if (family.line.length) {
      const line = element("path", { class: "line family", d: path(family.line.map(([r, at]) => [x(r), y(at)])) });
      line.style.stroke = family.colour;
      svg.append(line);
    }
    for (const point of family.points) {
      const name = `${plain(family.noise)} ${point.severity || ""}: best λ ${point.lam}`;
      const at = [x(point.residual), y(point.lam)], opacity = { "fill-opacity": point.fitted ? 0.9 : 0.25 };
      svg.append(shape(family, at, opacity, element("title", {}, name)));
    }
  }
  const cursor = element("line", { class: "cursor moving", x1: edge.left, x2: width - edge.right, y1: 0, y2: 0 });
  const said = element("text", { class: "name moving", x: width - edge.right, y: -5, "text-anchor": "end" });
  svg.append(cursor, said);
  const entry = (family) => element("span", {},
    element("svg", { viewBox: "-7 -7 14 14", "aria-hidden": "true" }, shape(family, [0, 0])),
    plain(family.noise) + (family.equation && `: ${family.equation}`));
  $("law").replaceChildren(svg, element("p", { class: "legend wide" }, ...law.families.map(entry)));
  $("law-note").textContent = law.note;
  return () => {
    const own = lam(), r = Math.round((own - law.intercept) / law.slope);
    cursor.style.transform = said.style.transform = `translateY(${y(own)}px)`;
    const isOutside = own < law.lowest || own > law.highest || !Number.isFinite(r);
    said.textContent = `${lamText()}: ${isOutside ? "not by the law" : `where r is about ${r}`}`;
    const what = `Best λ of ${points.length} noise levels against their mean residual, a line per noise and the law`;
    svg.setAttribute("aria-label", `${what}; ${said.textContent}`);
  };
}
