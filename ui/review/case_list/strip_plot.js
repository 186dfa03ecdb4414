// Scores of all cases on one line: a dot each, those that nearly coincide above one another, over median and quartiles.

const PLOT = { width: 320, height: 56, margin: 8, dot: 4, base: 38 }; // in units of the picture
const SVG = "http://www.w3.org/2000/svg";

function stripPlot(plot, selected, choose) {
  const root = createElement("div", "plot"), picture = document.createElementNS(SVG, "svg"), span = plot.high - plot.low || 1;
  const x = (value) => PLOT.margin + ((value - plot.low) / span) * (PLOT.width - 2 * PLOT.margin);
  picture.setAttribute("viewBox", `0 0 ${PLOT.width} ${PLOT.height}`);
  picture.setAttribute("role", "img");
  picture.setAttribute("aria-label", `${plot.label} of ${plot.points.length} cases: ${plot.text}`);
  const [lower, upper] = plot.quartiles;
  picture.append(
    shape("rect", { class: "half", x: x(lower), y: 6, width: Math.max(1, x(upper) - x(lower)), height: PLOT.base - 2, rx: 2 }),
    shape("line", { class: "median", x1: x(plot.median), x2: x(plot.median), y1: 4, y2: PLOT.base + 6 }),
    shape("line", { class: "axis", x1: PLOT.margin, x2: PLOT.width - PLOT.margin, y1: PLOT.base + 6, y2: PLOT.base + 6 }),
  );
  plot.ends.forEach((label, n) => {
    const end = shape("text", { x: n ? PLOT.width - PLOT.margin : PLOT.margin, y: PLOT.height - 1, "text-anchor": n ? "end" : "start" });
    end.textContent = label;
    picture.append(end);
  });
  const ends = []; // right end of the dots so far, by level
  for (const point of [...plot.points].sort((a, b) => a.value - b.value)) {
    const at = x(point.value), free = ends.findIndex((end) => at >= end), level = free < 0 ? ends.length : free;
    ends[level] = at + 2 * PLOT.dot;
    const y = PLOT.base - (level * 1.7 * PLOT.dot) % (PLOT.base - PLOT.dot);
    const dot = shape("circle", { class: `dot${point.outlier ? " outlier" : ""}${point.id === selected ? " selected" : ""}`, cx: at, cy: y, r: point.id === selected ? PLOT.dot + 1.5 : PLOT.dot });
    const title = shape("title", {});
    title.textContent = `${point.id}: ${point.text}`;
    dot.append(title);
    dot.addEventListener("click", () => choose(point.id));
    picture.append(dot);
  }
  const chosen = picture.querySelector(".selected");
  if (chosen) picture.append(chosen); // above the others
  const words = createElement("div", "caption");
  words.textContent = `${plot.label}: ${plot.text}`;
  root.append(picture, words);
  return root;
}

function shape(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  return made;
}

function createElement(tag, className = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  return element;
}
