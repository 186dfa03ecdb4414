// The table of runs; a click, Enter or Space selects a row. Text goes through textContent only.

const COLUMNS = [
  ["State", (r) => r.shown, "state"],
  ["Name", (r) => r.name, "name"],
  ["Data", (r) => r.data, "data"],
  ["Preset", (r) => r.preset, "extra"],
  ["Epoch", (r) => r.epoch, "right epoch"],
  ["Best Dice", (r) => r.dice, "right"],
  ["Measured on", (r) => r.on, "extra"],
  ["Started", (r) => r.started, "right"],
  ["Length", (r) => r.length, "right"],
];

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".root");
  let frame = root.querySelector(".frame");
  if (!frame) {
    frame = make("div", "frame");
    const table = make("table"), head = make("thead"), line = make("tr");
    table.setAttribute("role", "grid");
    table.setAttribute("aria-label", "Runs");
    line.append(...COLUMNS.map(([title, , style]) => cell("th", title, style.replace("name", "").replace("data", ""))));
    head.append(line);
    table.append(head, make("tbody"));
    frame.append(table);
    root.append(frame);
  }
  const body = frame.querySelector("tbody"), known = new Map([...body.children].map((tr) => [tr.dataset.run, tr]));
  const rows = data.rows.map((row) => {
    const tr = known.get(row.id) ?? make("tr");
    fill(tr, row, row.id === data.selected);
    tr.onclick = () => setTriggerValue("chosen", row.id);
    tr.onkeydown = (event) => {
      if (event.key === "Enter" || event.key === " ") setTriggerValue("chosen", row.id);
      else if (event.key === "ArrowDown") tr.nextElementSibling?.focus();
      else if (event.key === "ArrowUp") tr.previousElementSibling?.focus();
      else return;
      event.preventDefault();
    };
    return tr;
  });
  const same = rows.length === body.children.length && rows.every((tr, i) => body.children[i] === tr);
  if (!same) body.replaceChildren(...rows);
}

function fill(tr, row, selected) {
  const signature = JSON.stringify([row, selected]);
  if (tr.dataset.signature === signature) return;
  tr.dataset.signature = signature;
  tr.dataset.run = row.id;
  tr.className = row.shown === "stalled" ? "stalled" : row.state;
  tr.tabIndex = 0;
  tr.setAttribute("aria-selected", String(selected));
  const cells = COLUMNS.map(([, text, style]) => cell("td", text(row), style));
  cells[0].prepend(make("span", "dot"));
  cells[0].title = row.title;
  cells[1].title = row.id;
  cells[1].append(...row.tags.map((tag) => make("span", "tag", tag)));
  if (row.share !== null) {
    const bar = make("span", "bar"), done = make("i");
    done.style.width = `${Math.round(row.share * 100)}%`;
    bar.append(done);
    cells[4].append(bar);
  }
  tr.replaceChildren(...cells);
}

function make(tag, style = "", text = "") {
  const element = document.createElement(tag);
  if (style) element.className = style;
  if (text) element.textContent = text;
  return element;
}

function cell(tag, text, style) {
  const element = make(tag, style);
  element.append(text);
  return element;
}
