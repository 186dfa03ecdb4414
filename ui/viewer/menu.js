// A button that opens a panel below it. Escape, a press outside and the opening of another menu close it.

class Menu {
  static opened = null;

  constructor(title, ...content) {
    this.root = element("details", "menu");
    this.button = text("summary", title);
    this.panel = element("div", "panel");
    this.panel.append(...content);
    this.root.append(this.button, this.panel);
    this.button.addEventListener("click", (event) => { event.preventDefault(); this.set(!this.root.open); });
    this.root.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !this.root.open) return;
      event.preventDefault();
      event.stopPropagation();
      this.set(false);
      this.button.focus();
    });
    this.pressed = (event) => { if (!event.composedPath().includes(this.root)) this.set(false); };
  }

  set(open) {
    if (open && Menu.opened !== this) Menu.opened?.set(false);
    this.root.open = open;
    Menu.opened = open ? this : Menu.opened === this ? null : Menu.opened;
    if (!open) return document.removeEventListener("pointerdown", this.pressed, true);
    document.addEventListener("pointerdown", this.pressed, true);
    this.place();
  }

  // Keep the panel inside the viewer.
  place() {
    this.panel.style.translate = "";
    const { left, right } = this.panel.getBoundingClientRect(), viewer = this.root.closest(".root").getBoundingClientRect();
    this.panel.style.translate = `${-clamp(right - viewer.right, 0, Math.max(0, left - viewer.left))}px`;
  }
}
