// What the figures of the Learn page share: mounting, elements, controls, colours of the theme. One module in the
// browser with the figure's own file behind it (ui/learn/__init__.py joins them). Text goes through textContent only.

const kept = new WeakMap();

// The component of a figure: it is made once per place on the page; data and theme may change later.
function component(Figure) {
  return ({ data, parentElement }) => {
    let figure = kept.get(parentElement);
    if (!figure) {
      figure = new Figure(parentElement.querySelector(".root"), parentElement.host ?? parentElement);
      kept.set(parentElement, figure);
    }
    figure.show(data);
    return () => { figure.close(); kept.delete(parentElement); };
  };
}

class Base {
  constructor(root, host) {
    this.root = root;
    this.host = host;
    this.observer = new ResizeObserver(() => this.ready && this.draw());
    this.observer.observe(root);
  }

  show(data) {
    const changed = JSON.stringify(data) !== this.known;
    if (changed) {
      this.known = JSON.stringify(data);
      this.data = data;
      this.root.replaceChildren();
      this.build(data);
      this.ready = true;
    }
    this.draw();  // the theme may have changed
  }

  close() { this.observer.disconnect(); }

  colour(name, fallback) {
    return getComputedStyle(this.host).getPropertyValue(name).trim() || fallback;
  }
}

function make(tag, style = "", text = "") {
  const element = document.createElement(tag);
  if (style) element.className = style;
  if (text) element.textContent = text;
  return element;
}

function svg(tag, attributes = {}, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  if (text) element.textContent = text;
  return element;
}

// A slider with its name and its value in words; ``words`` turns the number into them.
function slider(name, low, high, step, value, words, changed) {
  const label = make("label", "slider"), title = make("span", "", name), out = make("output");
  const input = make("input");
  Object.assign(input, { type: "range", min: low, max: high, step, value });
  input.setAttribute("aria-label", name);
  const tell = () => { out.textContent = words(Number(input.value)); input.setAttribute("aria-valuetext", out.textContent); };
  input.addEventListener("input", () => { tell(); changed(Number(input.value)); });
  label.append(title, input, out);
  label.set = (v) => { input.value = v; tell(); };
  tell();
  return label;
}

// A row of buttons of which one is pressed; ``options``: [[value, text], ...].
function choice(name, options, value, changed) {
  const group = make("div", "choice");
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", name);
  const press = (chosen) => {
    for (const b of group.children) b.setAttribute("aria-pressed", String(b.dataset.value === String(chosen)));
  };
  for (const [key, text] of options) {
    const b = make("button", "", text);
    b.type = "button";
    b.dataset.value = String(key);
    b.addEventListener("click", () => { press(key); changed(key); });
    group.append(b);
  }
  press(value);
  group.set = press;
  return group;
}

function button(text, pressed) {
  const b = make("button", "plain", text);
  b.type = "button";
  b.addEventListener("click", pressed);
  return b;
}

// Names and numbers side by side: [[name, id], ...]; ``set(id, text)`` writes a number.
function readout(rows) {
  const list = make("dl", "readout"), places = new Map();
  for (const [id, name] of rows) {
    const value = make("dd");
    value.dataset.id = id;
    list.append(make("dt", "", name), value);
    places.set(id, value);
  }
  list.set = (id, text) => { places.get(id).textContent = text; };
  return list;
}

function swatches(rows) {
  const line = make("div", "swatches");
  for (const [colour, name] of rows) {
    const item = make("span"), mark = make("i");
    mark.style.background = colour;
    item.append(mark, name);
    line.append(item);
  }
  return line;
}

// Ready to draw in CSS pixels; nothing where the canvas has no size yet.
function surface(canvas, width, height) {
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

// Two masks on a dark ground, in the viewer's colours for errors.
const MASKS = { ground: "#0b0e13", both: "#d5d9e0", missed: "#4fc3f7", extra: "#ff9f40" };

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const percent = (share) => (100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0) + " %";
const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

function bytes(base64) {
  return Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
}

// Bits packed eight to a byte, the first one highest, as numpy.packbits does.
function bits(base64, count) {
  const packed = bytes(base64), found = new Uint8Array(count);
  for (let n = 0; n < count; n++) found[n] = (packed[n >> 3] >> (7 - (n & 7))) & 1;
  return found;
}

function packed(mask) {
  const out = new Uint8Array(Math.ceil(mask.length / 8));
  for (let n = 0; n < mask.length; n++) if (mask[n]) out[n >> 3] |= 128 >> (n & 7);
  return btoa(String.fromCharCode(...out));
}
