// The list of cases. Rows come as data; a click, Enter or Space chooses one. Text goes through textContent only.

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".root");
  const focused = [...root.children].findIndex((row) => row.matches(":focus"));
  root.setAttribute("role", "listbox");
  root.setAttribute("aria-label", "Cases");
  const rows = data.rows.map((row) => {
    const made = make("div", "case" + (row.waiting ? " waiting" : ""));
    made.tabIndex = 0;
    made.setAttribute("role", "option");
    made.setAttribute("aria-selected", String(row.id === data.selected));
    made.title = `${row.id}: ${row.title}`;
    const name = make("span", "name"), bars = make("span", "bars"), dice = make("span", "dice");
    name.textContent = row.id;
    dice.textContent = row.dice;
    if (row.missed) {
      const flag = make("span", "flag");
      flag.textContent = "missed";
      name.append(flag);
    }
    for (const bar of row.bars) {
      const track = make("i"), fill = make("b");
      fill.style.height = `${Math.round(Math.max(0.04, bar.share) * 100)}%`;
      fill.style.background = bar.colour;
      track.append(fill);
      bars.append(track);
    }
    made.append(name, bars, dice);
    made.onclick = () => setTriggerValue("chosen", row.id);
    made.onkeydown = (event) => {
      if (event.key === "Enter" || event.key === " ") setTriggerValue("chosen", row.id);
      else if (event.key === "ArrowDown") made.nextElementSibling?.focus();
      else if (event.key === "ArrowUp") made.previousElementSibling?.focus();
      else return;
      event.preventDefault();
    };
    return made;
  });
  root.replaceChildren(...rows);
  if (focused >= 0) rows[focused]?.focus({ preventScroll: true });
  const selected = rows.find((row) => row.getAttribute("aria-selected") === "true");
  if (selected && root.dataset.selected !== data.selected) { // bring it into view within the list alone
    const top = selected.offsetTop - root.offsetTop, bottom = top + selected.offsetHeight;
    if (top < root.scrollTop) root.scrollTop = top;
    else if (bottom > root.scrollTop + root.clientHeight) root.scrollTop = bottom - root.clientHeight;
  }
  root.dataset.selected = data.selected ?? "";
}

function make(tag, style = "") {
  const element = document.createElement(tag);
  if (style) element.className = style;
  return element;
}
