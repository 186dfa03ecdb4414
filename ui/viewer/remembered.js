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

const REMEMBERED_COLOURS = "segmentarium.colours", IS_COLOUR = /^#[0-9a-f]{6}$/i;

// Colours that a person has given to classes, by name.
function rememberedColours() {
  try {
    const kept = Object.entries(JSON.parse(localStorage.getItem(REMEMBERED_COLOURS)) ?? {});
    return new Map(kept.filter(([, colour]) => IS_COLOUR.test(colour)));
  } catch {
    return new Map(); // no storage, or not ours
  }
}

// Remember the colour of a class, or forget it. Others are those of the storage, which another tab may have changed.
function rememberColour(name, colour) {
  const kept = rememberedColours();
  if (colour) kept.set(name, colour);
  else kept.delete(name);
  try {
    localStorage.setItem(REMEMBERED_COLOURS, JSON.stringify(Object.fromEntries(kept)));
  } catch {
    // no storage: the colours last as long as the page
  }
}
