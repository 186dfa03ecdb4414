// Elements of the page around the panes. Text from data goes through textContent only, never through HTML.

function element(tag, style = "") {
  const made = document.createElement(tag);
  if (style) made.className = style;
  return made;
}

function text(tag, content, style = "") {
  const made = element(tag, style);
  made.textContent = content;
  return made;
}

function button(title, action) {
  const made = text("button", title);
  made.type = "button";
  made.addEventListener("click", action);
  return made;
}

function swatch(colour, hatched = false) {
  const mark = element("i");
  mark.style.background = hatched ? `repeating-linear-gradient(135deg, ${colour} 0 2px, #00000073 2px 4px)` : colour;
  return mark;
}

// Buttons of which one is pressed, or several; choices: [[value, name], ...].
function switchGroup(title, choices, current, choose, multiple = false) {
  const group = element("span", "switch");
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", title);
  const buttons = choices.map(([value, name]) => {
    const b = button(name, () => choose(value));
    b.dataset.value = String(value);
    return [value, b];
  });
  group.append(...buttons.map(([, b]) => b));
  group.refresh = () => {
    const pressed = current();
    for (const [value, b] of buttons) b.setAttribute("aria-pressed", String(multiple ? pressed.includes(value) : pressed === value));
  };
  return group;
}

function rangeInput(title, [low, high, step], value, change) {
  const input = element("input");
  Object.assign(input, { type: "range", min: String(low), max: String(high), step: String(step), value: String(value) });
  input.setAttribute("aria-label", title);
  input.addEventListener("input", () => change(Number(input.value)));
  return input;
}

function numberInput(title, change) {
  const input = element("input", "number");
  Object.assign(input, { type: "number", step: "any" });
  input.setAttribute("aria-label", title);
  input.addEventListener("change", () => change(input.value === "" ? NaN : Number(input.value)));
  return input;
}

function colourInput(title, change) {
  const input = element("input", "colour");
  input.type = "color";
  input.setAttribute("aria-label", title);
  input.title = title;
  input.addEventListener("input", () => change(input.value));
  return input;
}

function checkbox(title, checked, change) {
  const label = element("label"), input = element("input");
  input.type = "checkbox";
  input.checked = checked;
  input.addEventListener("change", () => change(input.checked));
  label.append(input, title);
  return label;
}

// Make the controls in an element one stop of the Tab key; the arrow keys, Home and End move between them. In a slider the
// vertical ones change its value. Returns a function that replaces the content of a part of the element, and has another
// one as `moved`.
function oneTabStop(root, title) {
  root.setAttribute("role", "toolbar");
  root.setAttribute("aria-label", title);
  const isControl = (c) => !c.disabled && !c.closest(".panel, [hidden]");
  const controls = () => [...root.querySelectorAll("button, summary, input[type=range]")].filter(isControl);
  const select = (chosen) => { for (const c of controls()) c.tabIndex = c === chosen ? 0 : -1; };
  root.addEventListener("focusin", (event) => { if (controls().includes(event.target)) select(event.target); });
  root.addEventListener("keydown", (event) => {
    const all = controls(), at = all.indexOf(event.target), vertical = event.target.type === "range" ? NaN : 1;
    const step = { ArrowRight: 1, ArrowDown: vertical, ArrowLeft: -1, ArrowUp: -vertical }[event.key];
    const next = { Home: 0, End: all.length - 1 }[event.key] ?? at + step;
    if (at < 0 || Number.isNaN(next) || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    all[(next + all.length) % all.length].focus();
  });
  // The control that had the focus, or could get it, is found again by its place in the part.
  const fill = (part, ...content) => {
    const inPart = () => controls().filter((c) => part.contains(c));
    const at = inPart().findIndex((c) => c.tabIndex === 0), focused = inPart()[at]?.matches(":focus");
    part.replaceChildren(...content);
    const again = at < 0 ? null : inPart()[Math.min(at, inPart().length - 1)];
    select(again ?? controls().find((c) => c.tabIndex === 0 && !part.contains(c)) ?? controls()[0]);
    if (focused) again?.focus();
  };
  // After controls were moved between the element and a panel in it, where each is a stop of its own.
  fill.moved = () => {
    select(controls().find((c) => c.tabIndex === 0) ?? controls()[0]);
    for (const c of root.querySelectorAll(".panel button")) c.tabIndex = 0;
  };
  return fill;
}
