// The resolution of the screen, which changes when the page is zoomed or its window moves to another screen.

// Call a function at each change; returns a function that ends this.
function onPixelRatioChange(changed) {
  let query;
  const watch = () => {
    query?.removeEventListener("change", noticed);
    query = matchMedia(`(resolution: ${window.devicePixelRatio}dppx)`);
    query.addEventListener("change", noticed);
  };
  const noticed = () => { watch(); changed(); };
  watch();
  return () => query.removeEventListener("change", noticed);
}
