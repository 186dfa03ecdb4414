// Choose a side (← →), give a confidence (1 to 4), continue (Enter or Space). Text is set through textContent only.

const RESEND_MS = 4000; // an event without effect is sent again; the server counts it once
const CONFIDENCE = ["a guess", "rather unsure", "rather sure", "certain"];
const bars = new WeakMap();

export default function ({ data, parentElement, setTriggerValue }) {
  let bar = bars.get(parentElement);
  if (!bar) {
    bar = new Bar(parentElement);
    bars.set(parentElement, bar);
  }
  bar.send = setTriggerValue;
  bar.show(data);
  return () => { bar.close(); bars.delete(parentElement); };
}

class Bar {
  constructor(parent) {
    this.root = parent.querySelector(".root");
    this.onKeyDown = (event) => this.handleKey(event);
    document.addEventListener("keydown", this.onKeyDown, { capture: true });
  }

  close() {
    document.removeEventListener("keydown", this.onKeyDown, { capture: true });
    clearTimeout(this.timer);
  }

  // The page runs again for many reasons; only another question or its verdict changes the bar.
  show(data) {
    const signature = JSON.stringify(data);
    if (signature === this.signature) return;
    clearTimeout(this.timer);
    this.signature = signature;
    this.data = data;
    this.side = null;
    this.sent = false;
    this.root.dataset.number = String(data.number);
    this.root.dataset.state = data.verdict ? "answered" : "open";
    this.root.replaceChildren(...(data.verdict ? this.answeredElements(data.verdict) : this.openElements()));
  }

  openElements() {
    this.sideButtons = ["left", "right"].map((side) => {
      const button = createButton("side", () => this.choose(side));
      button.append(...(side === "left" ? [createKey("←"), "The left one"] : ["The right one", createKey("→")]));
      button.setAttribute("aria-pressed", "false");
      button.dataset.side = side;
      return button;
    });
    const group = createElement("div", "confidence"), name = createElement("span", "name");
    name.textContent = "How sure?";
    group.setAttribute("aria-label", "How sure?");
    this.confidenceButtons = CONFIDENCE.map((text, n) => {
      const button = createButton("level", () => this.answer(n + 1));
      button.append(createKey(String(n + 1)), text);
      return button;
    });
    this.confidenceButtons.forEach((button, n) => { button.tabIndex = n ? -1 : 0; }); // one stop of the Tab key
    group.setAttribute("role", "toolbar");
    group.addEventListener("keydown", (event) => {
      const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      this.confidenceButtons[this.confidenceButtons.indexOf(event.target) + step]?.focus();
    });
    group.append(name, ...this.confidenceButtons);
    this.hint = createElement("div", "hint");
    this.hint.setAttribute("role", "status");
    this.hint.textContent = "Which is the ground truth? ← or →, then 1 to 4.";
    return [this.sideButtons[0], group, this.sideButtons[1], this.hint];
  }

  answeredElements({ correct, text, explanation, last }) {
    const verdict = createElement("div", "verdict"), heading = createElement("strong", correct ? "correct" : "wrong");
    const line = createElement("span", "explanation");
    heading.textContent = `${correct ? "✓" : "✗"} ${text}`;
    line.textContent = explanation;
    verdict.setAttribute("role", "status");
    verdict.append(heading, line);
    this.nextButton = createButton("next", () => this.next());
    this.nextButton.append(last ? "See the score" : "Next question", createKey("Enter"));
    return [verdict, this.nextButton];
  }

  choose(side) {
    if (this.sent || this.data.verdict) return;
    this.side = side;
    for (const b of this.sideButtons) b.setAttribute("aria-pressed", String(b.dataset.side === side));
    this.hint.textContent = `The ${side} one. How sure? 1 to 4.`;
  }

  answer(confidence) {
    if (this.sent || this.data.verdict) return;
    if (!this.side) {
      this.hint.textContent = "Choose a side first: ← or →.";
      return;
    }
    this.sent = true;
    this.confidenceButtons[confidence - 1].setAttribute("aria-pressed", "true");
    for (const b of [...this.sideButtons, ...this.confidenceButtons]) b.disabled = true;
    this.sendUntilShown("answer", { number: this.data.number, attempt: this.data.attempt, side: this.side, confidence });
  }

  next() {
    if (this.sent || !this.data.verdict) return;
    this.sent = true;
    this.nextButton.disabled = true;
    this.sendUntilShown("next", { number: this.data.number });
  }

  // The connection may break at this moment; after a reconnection the bar is the same as before.
  sendUntilShown(name, value) {
    this.send(name, value);
    this.timer = setTimeout(() => this.sendUntilShown(name, value), RESEND_MS);
  }

  handleKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey || event.repeat) return;
    const target = event.composedPath()[0], inBar = this.root.contains(target);
    if (target.closest?.("input, textarea, select, summary, [data-testid=stTopNavLink], [contenteditable=true], [role=dialog]")) return;
    const action = this.data.verdict
      ? { Enter: () => this.next(), " ": () => this.next() }[event.key]
      : { ArrowLeft: () => this.choose("left"), ArrowRight: () => this.choose("right") }[event.key] ??
        (/^[1-4]$/.test(event.key) ? () => this.answer(Number(event.key)) : null);
    if (!action) return;
    // Enter and Space press a focused button outside of the bar.
    if (!inBar && (event.key === "Enter" || event.key === " ") && target.closest?.("button, a, [role=button], [role=tab]")) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  }
}

function createElement(tag, className) {
  const element = document.createElement(tag);
  element.className = className;
  return element;
}

function createButton(className, onClick) {
  const button = createElement("button", className);
  button.type = "button";
  button.addEventListener("click", onClick);
  return button;
}

function createKey(text) {
  const key = createElement("kbd", "");
  key.textContent = text;
  return key;
}
