// Shared by the figures of the Learn page: mounting, elements, controls, theme colours, decoding. The file of a figure is
// appended to this one to make one module (ui/shared/component.py). Text is set through textContent only.

const figures = new WeakMap();

// The default export of a figure's file: a Streamlit component with one figure per mount point; later calls update it.
function component(FigureClass) {
  return ({ data, parentElement }) => {
    let figure = figures.get(parentElement);
    if (!figure) {
      figure = new FigureClass(parentElement.querySelector(".root"), parentElement.host ?? parentElement);
      figures.set(parentElement, figure);
    }
    figure.show(data);
    return () => { figure.close(); figures.delete(parentElement); };
  };
}

// A subclass builds its elements in build(data) and renders its state in draw().
class Figure {
  constructor(root, host) {
    this.root = root;
    this.host = host;
    this.observer = new ResizeObserver(() => this.ready && this.draw());
    this.observer.observe(root);
    this.forgetPixelRatio = onPixelRatioChange(() => this.ready && this.draw());
  }

  show(data) {
    const signature = JSON.stringify(data);
    if (signature !== this.signature) {
      this.signature = signature;
      this.data = data;
      this.root.replaceChildren();
      this.build(data);
      this.ready = true;
    }
    this.draw();  // the theme may have changed
  }

  close() {
    this.observer.disconnect();
    this.forgetPixelRatio();
  }

  colour(name, fallback) {
    return getComputedStyle(this.host).getPropertyValue(name).trim() || fallback;
  }
}

function createElement(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

function createSvg(tag, attributes = {}, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  if (text) element.textContent = text;
  return element;
}

// A labelled slider; ``format`` turns its value into text, ``onChange`` receives it.
function slider(name, low, high, step, value, format, onChange) {
  const label = createElement("label", "slider"), title = createElement("span", "", name), output = createElement("output");
  const input = createElement("input");
  Object.assign(input, { type: "range", min: low, max: high, step, value });
  input.setAttribute("aria-label", name);
  const update = () => { output.textContent = format(Number(input.value)); input.setAttribute("aria-valuetext", output.textContent); };
  input.addEventListener("input", () => { update(); onChange(Number(input.value)); });
  label.append(title, input, output);
  label.set = (v) => { input.value = v; update(); };
  update();
  return label;
}

// A row of buttons of which exactly one is pressed; ``options``: [[value, text], ...].
function buttonGroup(name, options, value, onChange) {
  const group = createElement("div", "button-group");
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", name);
  const press = (chosen) => {
    for (const b of group.children) b.setAttribute("aria-pressed", String(b.dataset.value === String(chosen)));
  };
  for (const [key, text] of options) {
    const b = createElement("button", "", text);
    b.type = "button";
    b.dataset.value = String(key);
    b.addEventListener("click", () => { press(key); onChange(key); });
    group.append(b);
  }
  press(value);
  group.set = press;
  return group;
}

function button(text, onClick) {
  const b = createElement("button", "plain", text);
  b.type = "button";
  b.addEventListener("click", onClick);
  return b;
}

// Names and values side by side: [[id, name], ...]; ``set(id, text)`` writes a value.
function valueList(rows) {
  const list = createElement("dl", "value-list"), values = new Map();
  for (const [id, name] of rows) {
    const value = createElement("dd");
    value.dataset.id = id;
    list.append(createElement("dt", "", name), value);
    values.set(id, value);
  }
  list.set = (id, text) => { values.get(id).textContent = text; };
  return list;
}

// A colour and a name per entry: [[colour, name], ...].
function colourLegend(entries) {
  const legend = createElement("div", "legend");
  for (const [colour, name] of entries) {
    const item = createElement("span"), swatch = createElement("i");
    swatch.style.background = colour;
    item.append(swatch, name);
    legend.append(item);
  }
  return legend;
}

// The cleared 2D context of a canvas, resized to CSS pixels at the resolution of the screen.
function canvasContext(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = width + "px";
  canvas.style.height = height + "px";
  const g = canvas.getContext("2d");
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  g.imageSmoothingEnabled = false;
  g.clearRect(0, 0, width, height);
  return g;
}

// Colours of two masks on a dark background, as for errors in the viewer.
const MASKS = { background: "#0b0e13", both: "#d5d9e0", falseNegative: "#4fc3f7", falsePositive: "#ff9f40" };

// The class of an index, or a name and a colour for a voxel with the ignore label, which belongs to no class.
const classAt = (classes, index) => classes[index] ?? { name: "left out", colour: "#c3c7cf" };

const ARROW_STEPS = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };  // column, row

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
// A number with fixed decimals; one that is not zero never appears as zero.
function fixed(value, digits) {
  while (value && digits < 12 && Math.abs(value) < 10 ** -digits) digits += 1;
  return value.toFixed(digits);
}
const percent = (share) => fixed(100 * share, share > 0 && share < 0.1 ? 1 : 0) + " %";
const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

function decodeBase64(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}

// Bits packed eight to a byte, most significant bit first, as by numpy.packbits.
function unpackBits(base64, count) {
  const packed = decodeBase64(base64), bits = new Uint8Array(count);
  for (let n = 0; n < count; n++) bits[n] = (packed[n >> 3] >> (7 - (n & 7))) & 1;
  return bits;
}

function packBits(mask) {
  const packed = new Uint8Array(Math.ceil(mask.length / 8));
  for (let n = 0; n < mask.length; n++) if (mask[n]) packed[n >> 3] |= 128 >> (n & 7);
  return btoa(String.fromCharCode(...packed));
}
