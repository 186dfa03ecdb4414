// State that a viewer takes over from the one before it when the page replaces its element.
// The page does so where a run of it overtakes another one, and after another view. What the viewer before has reported may not
// have reached the page; it is reported again where it is not what the page sends. A page that is opened begins anew.

const HANDED_OVER = ["settings", "data", "placed", "voxel", "zoom", "focus", "content", "box", "whole", "active", "looks"];
const closed = new Map(); // state of the last closed viewer, by the key that the page gives it; without volumes

// Keep the state of a viewer that is closed while its page is shown.
function handOver(viewer) {
  const { instance, path, scene, isReplacement, surfaces, hasKeyboard } = viewer;
  closed.delete(instance);
  if (location.pathname !== path || !(scene || isReplacement)) return;
  const state = Object.fromEntries(HANDED_OVER.map((name) => [name, viewer[name]]));
  closed.set(instance, { state, path, hasKeyboard, surfaces: surfaces.look });
}

// Give a new viewer the state of the one before; returns whether there was one. A page that asks for a look which the one
// before never had was opened by another address.
function takeOver(viewer, look) {
  const before = closed.get(viewer.instance);
  closed.delete(viewer.instance);
  if (!before || before.path !== viewer.path || !before.state.looks.has(look)) return false;
  Object.assign(viewer, before.state);
  viewer.hasKeyboard = before.hasKeyboard;
  viewer.surfaces.look = before.surfaces;
  return true;
}
