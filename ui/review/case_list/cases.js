// The list of cases: a click, Enter or Space chooses one. Text is set through textContent only.

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".root");
  const focused = [...root.children].findIndex((row) => row.matches(":focus"));
  root.setAttribute("role", "listbox");
  root.setAttribute("aria-label", "Cases");
  const rows = data.rows.map((row) => {
    const element = createElement("div", "case" + (row.waiting ? " waiting" : ""));
    element.tabIndex = 0;
    element.setAttribute("role", "option");
    element.setAttribute("aria-selected", String(row.id === data.selected));
    element.title = `${row.id}: ${row.title}`;
    const name = createElement("span", "name"), bars = createElement("span", "bars"), dice = createElement("span", "dice");
    name.textContent = row.id;
    dice.textContent = row.dice;
    if (row.missed) {
      const flag = createElement("span", "flag");
      flag.textContent = "missed";
      name.append(flag);
    }
    for (const bar of row.bars) {
      const track = createElement("i"), fill = createElement("b");
      fill.style.height = `${Math.round(Math.max(0.04, bar.share) * 100)}%`;
      fill.style.background = bar.colour;
      track.append(fill);
      bars.append(track);
    }
    element.append(name, bars, dice);
    element.onclick = () => setTriggerValue("chosen", row.id);
    element.onkeydown = (event) => {
      if (event.key === "Enter" || event.key === " ") setTriggerValue("chosen", row.id);
      else if (event.key === "ArrowDown") element.nextElementSibling?.focus();
      else if (event.key === "ArrowUp") element.previousElementSibling?.focus();
      else return;
      event.preventDefault();
    };
    return element;
  });
  root.replaceChildren(...rows);
  if (focused >= 0) rows[focused]?.focus({ preventScroll: true });
  const selected = rows.find((row) => row.getAttribute("aria-selected") === "true");
  if (selected && root.dataset.selected !== data.selected) { // scroll the list, not the page
    const top = selected.offsetTop - root.offsetTop, bottom = top + selected.offsetHeight;
    if (top < root.scrollTop) root.scrollTop = top;
    else if (bottom > root.scrollTop + root.clientHeight) root.scrollTop = bottom - root.clientHeight;
  }
  root.dataset.selected = data.selected ?? "";
}

function createElement(tag, className = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  return element;
}
