// The list of cases, one stop of the Tab key: a click, Enter or Space chooses one. Text is set through textContent only.

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".root"), before = root.querySelector(".list");
  const choose = (id) => setTriggerValue("chosen", id);
  const focused = [...(before?.children ?? [])].findIndex((row) => row.matches(":focus")), scrolled = before?.scrollTop ?? 0;
  const list = createElement("div", "list");
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "Cases");
  const rows = data.rows.map((row) => caseRow(row, row.id === data.selected, choose));
  const stops = new RovingFocus(list, () => rows);
  list.append(...rows);
  root.replaceChildren(...(data.plot ? [stripPlot(data.plot, data.selected, choose)] : []), list);
  list.scrollTop = scrolled;
  const selected = rows.find((row) => row.getAttribute("aria-selected") === "true");
  stops.renew(selected);
  if (focused >= 0) (rows[focused] ?? rows.at(-1))?.focus({ preventScroll: true });
  if (selected && root.dataset.selected !== data.selected) { // scroll the list, not the page
    const top = selected.offsetTop - list.offsetTop, bottom = top + selected.offsetHeight;
    if (top < list.scrollTop) list.scrollTop = top;
    else if (bottom > list.scrollTop + list.clientHeight) list.scrollTop = bottom - list.clientHeight;
  }
  root.dataset.selected = data.selected ?? "";
}

function caseRow(row, isSelected, choose) {
  const element = createElement("div", "case" + (row.waiting ? " waiting" : ""));
  element.tabIndex = -1; // see RovingFocus
  element.setAttribute("role", "option");
  element.setAttribute("aria-selected", String(isSelected));
  element.title = `${row.id}: ${row.title}`;
  const name = createElement("span", "name"), bars = createElement("span", "bars"), value = createElement("span", "value");
  name.textContent = row.id;
  value.textContent = row.value;
  for (const word of ["missed", "outlier", row.mark]) {
    if (!word || (word !== row.mark && !row[word])) continue;
    const flag = createElement("span", `flag ${word}`);
    flag.textContent = word;
    name.append(flag);
  }
  for (const bar of row.bars) {
    const track = createElement("i"), fill = createElement("b");
    fill.style.height = `${Math.round(Math.max(0.04, bar.share) * 100)}%`;
    fill.style.background = bar.colour;
    track.append(fill);
    bars.append(track);
  }
  element.append(name, bars, value);
  element.onclick = () => choose(row.id);
  element.onkeydown = (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    choose(row.id);
  };
  return element;
}
