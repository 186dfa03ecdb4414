// Part of the document of every page: a notification of the browser when a run ends, for those who asked for it on the
// Runs page (ui/runs/bell/bell.js).
(() => {
  const KEY = "segmentarium.notify", POLL_MS = 5000;
  let after = null; // time of the server up to which runs that ended were shown

  async function look() {
    if (!("Notification" in window) || localStorage.getItem(KEY) !== "on" || Notification.permission !== "granted") {
      after = null;
      return;
    }
    try {
      const response = await fetch(`api/ended${after === null ? "" : `?after=${after}`}`, { credentials: "same-origin" });
      if (!response.ok) return;
      const { now, ended } = await response.json();
      after = now;
      for (const run of ended) show(run);
    } catch {
      // the server does not answer: what ended in between is shown later
    }
  }

  function show({ run, name, text }) {
    const notification = new Notification(name, { body: text, tag: run }); // one for all tabs, by its tag
    notification.onclick = () => { window.focus(); location.assign(`runs?run=${encodeURIComponent(run)}`); };
  }

  setInterval(look, POLL_MS);
  look();
})();
