// The chart as a file: PNG, SVG, and all measurements as CSV.

const EXPORT = { width: 1000, legend: 26, line: 18, scale: 2 }; // pixels; scale of the PNG

// The part of a 2D canvas context that the chart uses; what is drawn becomes SVG elements.
class SvgContext {
  constructor() {
    this.parts = [];
    this.path = "";
    this.dash = [];
    this.clips = 0;
    this.stack = [];
    this.globalAlpha = this.lineWidth = 1;
    this.measuring = document.createElement("canvas").getContext("2d");
  }

  beginPath() { this.path = ""; }
  moveTo(x, y) { this.path += `M${round(x)} ${round(y)}`; }
  lineTo(x, y) { this.path += `L${round(x)} ${round(y)}`; }
  closePath() { this.path += "Z"; }
  rect(x, y, w, h) { this.path += `M${round(x)} ${round(y)}h${round(w)}v${round(h)}h${round(-w)}Z`; }
  arc(x, y, r) { this.path += `M${round(x - r)} ${round(y)}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`; }
  setLineDash(dash) { this.dash = dash; }
  save() { this.stack.push(false); }

  clip() {
    this.stack[this.stack.length - 1] = true;
    this.clips += 1;
    this.parts.push(`<clipPath id="clip${this.clips}"><path d="${this.path}"/></clipPath><g clip-path="url(#clip${this.clips})">`);
  }

  restore() { if (this.stack.pop()) this.parts.push("</g>"); }

  stroke() {
    const dash = this.dash.length ? ` stroke-dasharray="${this.dash.join(" ")}"` : "";
    this.parts.push(`<path d="${this.path}" fill="none" stroke="${escaped(this.strokeStyle)}" stroke-width="${this.lineWidth}" stroke-linejoin="round" opacity="${this.globalAlpha}"${dash}/>`);
  }

  fill() { this.parts.push(`<path d="${this.path}" fill="${escaped(this.fillStyle)}" opacity="${this.globalAlpha}"/>`); }

  fillRect(x, y, w, h) { this.beginPath(); this.rect(x, y, w, h); this.fill(); }

  fillText(text, x, y) {
    const anchor = { center: "middle", right: "end" }[this.textAlign] ?? "start";
    const shift = { top: "0.8em", middle: "0.35em", bottom: "-0.2em" }[this.textBaseline] ?? "0";
    this.parts.push(`<text x="${round(x)}" y="${round(y)}" dy="${shift}" text-anchor="${anchor}" fill="${escaped(this.fillStyle)}" opacity="${this.globalAlpha}">${escaped(text)}</text>`);
  }

  measureText(text) {
    this.measuring.font = this.font;
    return this.measuring.measureText(text);
  }

  toString(width, height, family) {
    return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="${escaped(family)}" font-size="11">${this.parts.join("\n")}</svg>\n`;
  }
}

// Shifts what is drawn on a context down, so that a legend fits above.
function below(g, offset) {
  const down = { moveTo: 1, lineTo: 1, rect: 1, arc: 1, fillRect: 1, fillText: 2 }; // position of y in the arguments
  return new Proxy(g, {
    get(target, name) {
      if (typeof target[name] !== "function") return target[name];
      return (...values) => {
        if (name in down) values[down[name]] += offset;
        return target[name](...values);
      };
    },
    set(target, name, value) { target[name] = value; return true; },
  });
}

// Curves, axes and legend of a chart on a context; returns the height.
function renderForFile(chart, g, entries, height) {
  const { width } = EXPORT;
  g.font = chart.font;
  g.globalAlpha = 1;
  let x = PAD.left, y = EXPORT.legend / 2;
  const places = entries.map((entry) => {
    const room = g.measureText(entry.label).width + 36;
    if (x > PAD.left && x + room > width - PAD.right) { x = PAD.left; y += EXPORT.line; }
    const place = { ...entry, x, y };
    x += room;
    return place;
  });
  const top = y + EXPORT.legend / 2, total = top + height;
  g.fillStyle = chart.paper;
  g.fillRect(0, 0, width, total);
  g.textAlign = "left";
  g.textBaseline = "middle";
  for (const place of places) {
    g.fillStyle = place.colour;
    g.fillRect(place.x, place.y - 1.5, 14, 3);
    g.fillStyle = chart.ink;
    g.fillText(place.label, place.x + 20, place.y);
  }
  chart.renderCurves(below(g, top), chart.lines(), width, height);
  return total;
}

function chartAsSvg(chart, entries, height) {
  const g = new SvgContext(), total = renderForFile(chart, g, entries, height);
  return new Blob([g.toString(EXPORT.width, total, chart.family)], { type: "image/svg+xml" });
}

function chartAsPng(chart, entries, height) {
  const canvas = document.createElement("canvas"), g = canvas.getContext("2d");
  const total = renderForFile(chart, g, entries, height); // the first time for its height
  canvas.width = EXPORT.width * EXPORT.scale;
  canvas.height = Math.ceil(total * EXPORT.scale);
  g.setTransform(EXPORT.scale, 0, 0, EXPORT.scale, 0, 0);
  renderForFile(chart, g, entries, height);
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

function download(url, name) {
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
}

function downloadBlob(blob, name) {
  const url = URL.createObjectURL(blob);
  download(url, name);
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

function round(v) { return Math.round(v * 100) / 100; }

function escaped(text) {
  return String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
}
