// Further modalities of the image, each in a row of panes of its own without overlay, with its own window. The other rows
// show the chosen modality.

const MODALITY_ROW = "modality "; // before the name of the modality

const modalityRow = ({ name }) => MODALITY_ROW + name;

// The menu in which each modality is switched on.
class ModalityMenu {
  constructor(viewer) {
    this.viewer = viewer;
    this.list = element("div", "checks");
    this.list.setAttribute("role", "group");
    this.list.setAttribute("aria-label", "A row for each modality");
    this.heading = text("span", "a row for each");
    this.menu = new Menu("+", this.heading, this.list);
    this.menu.button.title = "show modalities at the same time, a row each (Shift + M)";
    this.title("");
    this.boxes = new Map(); // by row, so that a choice keeps the focus
  }

  build() {
    const rows = this.viewer.modalityRows;
    if (String(rows) !== String([...this.boxes.keys()])) {
      this.boxes = new Map(rows.map((row) => [row, checkbox(row.slice(MODALITY_ROW.length), false, () => this.toggle(row))]));
      this.list.replaceChildren(...this.boxes.values());
    }
    this.menu.panel.querySelector(".tool")?.remove(); // the choice of the modality, which is made anew
    this.refresh();
  }

  // Name on the button: that of the chosen modality, where the choice of it is in the menu.
  title(name) {
    this.menu.button.textContent = name ? `${name} +` : "+";
    this.menu.button.setAttribute("aria-label", name ? `Modality ${name}; modalities at the same time` : "Modalities at the same time");
  }

  toggle(row) {
    this.viewer.toggleRow(row);
    this.refresh(); // the only row that is shown stays
  }

  refresh() {
    for (const [row, box] of this.boxes) box.firstChild.checked = this.viewer.rows.includes(row);
  }
}
