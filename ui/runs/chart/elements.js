// Elements of the chart's page.

function element(tag, className = "", text = "") {
  const e = document.createElement(tag);
  if (className) e.className = className;
  if (text) e.textContent = text;
  return e;
}

function button(text, onclick, value = "") {
  const b = element("button");
  b.type = "button";
  b.append(text);
  b.onclick = onclick;
  b.dataset.value = value;
  return b;
}

// Buttons side by side; the group has a name for screen readers.
function buttons(label, ...children) {
  const group = element("div", "switch");
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", label);
  group.append(...children);
  return group;
}

// A list to choose from; `onchange` gets the value.
function choice(label, values, onchange) {
  const select = element("select");
  select.setAttribute("aria-label", label);
  fillChoice(select, values);
  select.onchange = () => onchange(select.value);
  return select;
}

function fillChoice(select, values, selected = select.value) {
  if (values.join("\n") !== [...select.options].map((o) => o.value).join("\n")) {
    select.replaceChildren(...values.map((value) => new Option(value, value)));
  }
  if (values.includes(selected)) select.value = selected;
}

function tipRow(line, value) {
  const row = element("div"), dot = element("i");
  dot.style.background = line.colour;
  row.append(dot, element("span", "", line.title), element("em", "", number(value)));
  return row;
}
