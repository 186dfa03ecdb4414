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

function checkbox(title, checked, change) {
  const label = element("label"), input = element("input");
  input.type = "checkbox";
  input.checked = checked;
  input.addEventListener("change", () => change(input.checked));
  label.append(input, title);
  return label;
}

// Make the controls in an element one stop of the Tab key; the arrow keys, Home and End move between them.
function oneTabStop(root, title) {
  root.setAttribute("role", "toolbar");
  root.setAttribute("aria-label", title);
  const controls = () => [...root.querySelectorAll("button, summary")].filter((c) => !c.closest(".panel") && !c.disabled);
  const select = (chosen) => { for (const c of controls()) c.tabIndex = c === chosen ? 0 : -1; };
  root.addEventListener("focusin", (event) => { if (controls().includes(event.target)) select(event.target); });
  root.addEventListener("keydown", (event) => {
    const all = controls(), at = all.indexOf(event.target);
    const next = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[event.key];
    if (at < 0 || next === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    all[(next + all.length) % all.length].focus();
  });
  // New content: the control that had the focus, or could get it, is found again by its place.
  return (...content) => {
    const before = controls(), at = Math.max(0, before.findIndex((c) => c.tabIndex === 0));
    const focused = before[at]?.matches(":focus");
    root.replaceChildren(...content);
    const now = controls()[Math.min(at, controls().length - 1)];
    select(now);
    if (focused) now?.focus();
  };
}
