// Settings of a person that a browser remembers for all viewers.

const REMEMBERED = "segmentarium.viewer", REMEMBERED_NAMES = ["radiological", "smooth"];

function rememberedSettings() {
  try {
    const kept = JSON.parse(localStorage.getItem(REMEMBERED)) ?? {};
    return Object.fromEntries(REMEMBERED_NAMES.filter((name) => typeof kept[name] === "boolean").map((name) => [name, kept[name]]));
  } catch {
    return {}; // no storage, or not ours
  }
}

function rememberSettings(settings) {
  try {
    localStorage.setItem(REMEMBERED, JSON.stringify(Object.fromEntries(REMEMBERED_NAMES.map((name) => [name, settings[name]]))));
  } catch {
    // no storage: the settings last as long as the page
  }
}
