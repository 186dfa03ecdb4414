// The table of runs and groups: a click or Enter selects a row, its box or Space ticks it (a run's only), a click on a
// heading sorts. The rows are one stop of the Tab key. Text goes through textContent only.

const COLUMNS = [ // heading, key of the cell's text, style
  ["State", "shown", "state"],
  ["Name", "name", "name"],
  ["Data", "data", "data"],
  ["Preset", "preset", "extra"],
  ["Epoch", "epoch", "right epoch"],
  ["Best Dice", "dice", "right"],
  ["Measured on", "on", "extra"],
  ["Started", "started", "right"],
  ["Length", "length", "right"],
];
const FALLING_FIRST = new Set(["epoch", "dice", "started", "length"]);
const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
const tables = new WeakMap(); // by element
const signatures = new WeakMap(); // of what a row shows, by its element
const FIRST_ROWS = 40; // that are rendered at once, with those before the selected one; the others follow
const REST_AFTER_MS = 500; // when the rest of the page is there

export default function ({ data, parentElement, setStateValue }) {
  const root = parentElement.querySelector(".root");
  let table = tables.get(root);
  if (!table) tables.set(root, (table = new Table(root)));
  table.send = (clicks) => setStateValue("clicks", clicks);
  table.show(data);
}

const MAX_CLICKS = 50; // that are sent again with the next one

class Table {
  constructor(root) {
    this.clicks = []; // [time in ms, what, run]: the server may see several at once, and none is lost
    this.order = null; // { key, falls }; null: as the server sends the rows
    this.rows = new Map(); // tr by run
    this.revealed = null; // the run that was scrolled into sight
    this.rest = []; // rows that are not rendered yet
    this.isWaiting = false; // until they are rendered
    const frame = (this.frame = make("div", "frame")), table = make("table"), head = (this.head = make("thead")), line = make("tr");
    table.setAttribute("role", "grid");
    table.setAttribute("aria-label", "Runs");
    const ticks = make("th", "ticks");
    ticks.append(make("span", "unseen", "In the chart"));
    ticks.title = "tick runs to see their curves in one chart";
    this.heads = COLUMNS.map(([title, key, style]) => {
      const th = make("th", style.replace("name", "").replace("data", "")), sorter = make("button", "", title);
      sorter.type = "button";
      sorter.title = `sort by ${title.toLowerCase()}`;
      sorter.onclick = () => this.sortBy(key);
      th.append(sorter);
      return th;
    });
    line.append(ticks, ...this.heads);
    head.append(line);
    this.body = make("tbody");
    this.stops = new RovingFocus(this.body, () => [...this.body.children]);
    table.append(head, this.body);
    frame.append(table);
    root.append(frame);
  }

  show(data) {
    this.data = data;
    const known = this.rows;
    this.rows = new Map();
    for (const row of data.rows) {
      const tr = known.get(row.id) ?? this.makeRow(row.id);
      this.rows.set(row.id, tr);
      fill(tr, row, row.id === data.selected);
      const tick = tr.querySelector("input"), colour = data.ticked[row.id];
      tick.checked = colour !== undefined;
      tick.hidden = row.group || !data.tickable;
      tick.disabled = tick.hidden || (!tick.checked && data.full);
      tick.setAttribute("aria-label", `${row.name} in the chart`);
      tick.parentElement.title = tick.disabled ? "no more runs fit into the chart" : "its curves in the chart (Space)";
      tick.style.accentColor = colour || "";
    }
    this.place();
    this.reveal();
  }

  // Scroll the selected row into sight, once for each selection: afterwards the person scrolls.
  reveal() {
    const row = this.rows.get(this.data.selected), { frame } = this;
    if (!row || !frame.clientHeight || this.revealed === this.data.selected) return;
    this.revealed = this.data.selected;
    const seen = frame.getBoundingClientRect(), { top, bottom } = row.getBoundingClientRect();
    const above = seen.top + this.head.offsetHeight - top, below = bottom - (seen.top + frame.clientHeight);
    frame.scrollTop += above > 0 ? -above : Math.max(0, below);
  }

  // The first click on a heading sorts, the second reverses the order, the third restores that of the server.
  sortBy(key) {
    const first = FALLING_FIRST.has(key);
    if (this.order?.key !== key) this.order = { key, falls: first };
    else this.order = this.order.falls === first ? { key, falls: !first } : null;
    this.place();
  }

  place() {
    const rows = [...this.data.rows], { key, falls } = this.order ?? {};
    const value = (row) => (key in row.sort ? row.sort[key] : row[key] || null);
    const compare = (a, b) => (typeof a === "number" ? a - b : collator.compare(a, b));
    if (key) {
      rows.sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === null || y === null) return (x === null) - (y === null); // rows without a value last
        return falls ? compare(y, x) : compare(x, y);
      });
    }
    this.heads.forEach((th, n) => {
      const sorted = COLUMNS[n][1] === key;
      if (sorted) th.setAttribute("aria-sort", falls ? "descending" : "ascending"); else th.removeAttribute("aria-sort");
    });
    const ordered = rows.map((row) => this.rows.get(row.id)), { children } = this.body;
    const selected = rows.findIndex((row) => row.id === this.data.selected);
    const first = ordered.slice(0, Math.max(FIRST_ROWS, selected + 1, children.length));
    this.rest = ordered.slice(first.length);
    if (first.length !== children.length || first.some((tr, i) => children[i] !== tr)) {
      const focused = ordered.find((tr) => tr === tr.getRootNode().activeElement);
      this.body.replaceChildren(...first);
      focused?.focus();
    }
    this.stops.renew(this.rows.get(this.data.selected));
    this.renderRest();
  }

  // Add the remaining rows a little later: the layout of a long table would delay the whole page.
  renderRest() {
    if (this.isWaiting || !this.rest.length) return;
    this.isWaiting = true;
    setTimeout(() => {
      this.isWaiting = false;
      this.body.append(...this.rest);
      this.rest = [];
    }, REST_AFTER_MS);
  }

  click(what, id) {
    const time = Math.max(Date.now(), (this.clicks.at(-1)?.[0] ?? 0) + 1);
    this.clicks = [...this.clicks, [time, what, id]].slice(-MAX_CLICKS);
    this.send(this.clicks);
  }

  makeRow(id) {
    const tr = make("tr"), cell = make("td", "ticks"), label = make("label"), tick = make("input");
    tick.type = "checkbox";
    tick.tabIndex = -1; // Space on the row
    label.append(tick);
    cell.append(label);
    tr.append(cell);
    tr.tabIndex = -1; // see RovingFocus
    tr.dataset.run = id;
    const toggle = () => { if (!tick.disabled) this.click("tick", id); };
    tick.onchange = toggle;
    cell.onclick = (event) => event.stopPropagation();
    tr.onclick = () => this.click("choose", id);
    tr.onkeydown = (event) => {
      if (event.key === "Enter") this.click("choose", id);
      else if (event.key === " ") toggle();
      else return;
      event.preventDefault();
    };
    return tr;
  }
}

function fill(tr, row, selected) {
  const signature = JSON.stringify([row, selected]);
  if (signatures.get(tr) === signature) return;
  signatures.set(tr, signature);
  tr.className = row.shown === "stalled" ? "stalled" : row.state;
  tr.setAttribute("aria-selected", String(selected));
  const cells = new Map(COLUMNS.map(([, key, style]) => [key, make("td", style, row[key])]));
  cells.get("shown").prepend(make("span", "dot"));
  cells.get("shown").title = row.title;
  cells.get("name").title = row.id;
  cells.get("name").classList.toggle("group", row.group);
  cells.get("name").append(...row.tags.map((tag) => make("span", "tag", tag)));
  cells.get("started").title = row.started_at;
  if (row.share !== null) {
    const bar = make("span", "bar"), done = make("i");
    done.style.width = `${Math.round(row.share * 100)}%`;
    bar.append(done);
    cells.get("epoch").title = row.left;
    cells.get("epoch").prepend(bar); // the numbers of all rows end alike
  }
  tr.replaceChildren(tr.firstElementChild, ...cells.values());
}

function make(tag, style = "", text = "") {
  const element = document.createElement(tag);
  if (style) element.className = style;
  if (text) element.textContent = text;
  return element;
}
