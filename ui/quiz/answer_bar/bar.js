// Choose a side (← →), say how sure (1 to 4), go on (Enter or Space). Text goes through textContent only.

const AGAIN_MS = 4000; // what was sent and changed nothing is sent again; the server counts it once
const SURE = ["a guess", "rather unsure", "rather sure", "certain"];
const kept = new WeakMap();

export default function ({ data, parentElement, setTriggerValue }) {
  let bar = kept.get(parentElement);
  if (!bar) {
    bar = new Bar(parentElement);
    kept.set(parentElement, bar);
  }
  bar.send = setTriggerValue;
  bar.show(data);
  return () => { bar.close(); kept.delete(parentElement); };
}

class Bar {
  constructor(parent) {
    this.root = parent.querySelector(".root");
    this.hear = (event) => this.key(event);
    document.addEventListener("keydown", this.hear, { capture: true });
  }

  close() {
    document.removeEventListener("keydown", this.hear, { capture: true });
    clearTimeout(this.timer);
  }

  // The page runs again for many reasons; only another question, or its answer, changes what is here.
  show(data) {
    const signature = JSON.stringify(data);
    if (signature === this.signature) return;
    clearTimeout(this.timer);
    this.signature = signature;
    this.data = data;
    this.side = null;
    this.sent = false;
    this.root.dataset.number = String(data.number);
    this.root.dataset.state = data.told ? "told" : "asked";
    this.root.replaceChildren(...(data.told ? this.told(data.told) : this.asked()));
  }

  asked() {
    this.sides = ["left", "right"].map((side) => {
      const b = button("side", () => this.choose(side));
      b.append(...(side === "left" ? [mark("←"), "The left one"] : ["The right one", mark("→")]));
      b.setAttribute("aria-pressed", "false");
      b.dataset.side = side;
      return b;
    });
    const sure = make("div", "sure"), name = make("span", "name");
    name.textContent = "How sure?";
    sure.setAttribute("role", "group");
    sure.setAttribute("aria-label", "How sure?");
    this.degrees = SURE.map((words, n) => {
      const b = button("degree", () => this.answer(n + 1));
      b.append(mark(String(n + 1)), words);
      return b;
    });
    sure.append(name, ...this.degrees);
    this.hint = make("div", "hint");
    this.hint.setAttribute("role", "status");
    this.hint.textContent = "Which is the ground truth? ← or →, then 1 to 4.";
    return [this.sides[0], sure, this.sides[1], this.hint];
  }

  told({ right, verdict, why, last }) {
    const said = make("div", "said"), head = make("strong", right ? "right" : "wrong"), line = make("span", "why");
    head.textContent = `${right ? "✓" : "✗"} ${verdict}`;
    line.textContent = why;
    said.setAttribute("role", "status");
    said.append(head, line);
    this.onward = button("next", () => this.next());
    this.onward.append(last ? "See the score" : "Next question", mark("Enter"));
    return [said, this.onward];
  }

  choose(side) {
    if (this.sent || this.data.told) return;
    this.side = side;
    for (const b of this.sides) b.setAttribute("aria-pressed", String(b.dataset.side === side));
    this.hint.textContent = `The ${side} one. How sure? 1 to 4.`;
  }

  answer(sure) {
    if (this.sent || this.data.told) return;
    if (!this.side) {
      this.hint.textContent = "Choose a side first: ← or →.";
      return;
    }
    this.sent = true;
    this.degrees[sure - 1].setAttribute("aria-pressed", "true");
    for (const b of [...this.sides, ...this.degrees]) b.disabled = true;
    this.deliver("answer", { number: this.data.number, attempt: this.data.attempt, side: this.side, sure });
  }

  next() {
    if (this.sent || !this.data.told) return;
    this.sent = true;
    this.onward.disabled = true;
    this.deliver("next", { number: this.data.number });
  }

  // The connection may break just then; after it is back the page looks as it did before.
  deliver(name, value) {
    this.send(name, value);
    this.timer = setTimeout(() => this.deliver(name, value), AGAIN_MS);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey || event.repeat) return;
    const target = event.composedPath()[0], own = this.root.contains(target);
    if (target.closest?.("input, textarea, select, summary, [contenteditable=true], [role=dialog]")) return;
    const act = this.data.told
      ? { Enter: () => this.next(), " ": () => this.next() }[event.key]
      : { ArrowLeft: () => this.choose("left"), ArrowRight: () => this.choose("right") }[event.key] ??
        (/^[1-4]$/.test(event.key) ? () => this.answer(Number(event.key)) : null);
    if (!act) return;
    // Enter and Space on somebody else's button are that button's.
    if (!own && (event.key === "Enter" || event.key === " ") && target.closest?.("button, a, [role=button], [role=tab]")) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }
}

function make(tag, style) {
  const made = document.createElement(tag);
  made.className = style;
  return made;
}

function button(style, act) {
  const made = make("button", style);
  made.type = "button";
  made.addEventListener("click", act);
  return made;
}

function mark(words) {
  const made = make("kbd", "");
  made.textContent = words;
  return made;
}
