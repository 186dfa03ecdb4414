// A list as one stop of the Tab key: arrow keys, Page Up, Page Down, Home and End move between its items.

const ITEMS_PER_PAGE = 10;

class RovingFocus {
  // `items()`: the items in their order. `horizontal`: whether left and right move between them, too.
  constructor(list, items, horizontal = false) {
    Object.assign(this, { list, items, stop: null });
    list.addEventListener("focusin", (event) => { if (items().includes(event.target)) this.set(event.target); });
    list.addEventListener("keydown", (event) => {
      const all = items(), at = all.indexOf(event.target);
      if (at < 0 || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
      const next = {
        ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + ITEMS_PER_PAGE, PageUp: at - ITEMS_PER_PAGE, Home: 0, End: all.length - 1,
        ...(horizontal ? { ArrowRight: at + 1, ArrowLeft: at - 1 } : {}),
      }[event.key];
      if (next === undefined) return;
      event.preventDefault();
      all[Math.max(0, Math.min(next, all.length - 1))].focus();
    });
  }

  // After the items have changed; each new one has the tab index -1. Tab leads to the item with the focus, else to the
  // preferred one, else to the first.
  renew(preferred = null) {
    const all = this.items(), focused = this.list.getRootNode().activeElement;
    this.set([focused, preferred, all[0]].find((item) => item && all.includes(item)) ?? null);
  }

  set(item) {
    if (this.stop) this.stop.tabIndex = -1;
    if (item) item.tabIndex = 0;
    this.stop = item;
  }
}
