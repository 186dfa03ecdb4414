// Part of the document of every page, run before Streamlit.
(() => {
  // Streamlit looks for its server below the address of the page first, where nothing is; it is beside it, as is index.html.
  window.__streamlit = { BACKEND_BASE_URL: new URL(".", location.href).href };

  const REFUSED_AFTER = 2; // attempts to connect, as a server that starts again refuses one or two

  // Why the page stays empty: the server refuses the page's origin, or a proxy does not pass the websocket on.
  let attempts = 0, connected = false;
  const Socket = window.WebSocket;
  window.WebSocket = class extends Socket {
    constructor(...parameters) {
      super(...parameters);
      if (!String(parameters[0]).includes("/_stcore/stream")) return;
      this.addEventListener("message", (event) => {
        if (!serverMessages.received(new Uint8Array(event.data))) event.stopImmediatePropagation();
      });
      this.addEventListener("open", () => { connected = true; attempts = 0; show(null); });
      this.addEventListener("close", () => { connected = false; attempts++; if (attempts >= REFUSED_AFTER) explain(); });
    }

    send(data) {
      const isRequest = data instanceof Uint8Array && this.url.includes("/_stcore/stream");
      if (!isRequest) super.send(data);
      else if (serverMessages.isWanted(data)) super.send(serverMessages.marked(data));
    }
  };

  async function explain() {
    const base = document.querySelector('script[src*="static/js/"]')?.src.split("static/js/")[0] ?? location.href;
    let response;
    try {
      const headers = { accept: "text/plain" };
      response = await fetch(new URL("api/connection", base), { method: "POST", headers, credentials: "same-origin" });
    } catch {
      return show(null); // no server: Streamlit says so
    }
    if (connected) return;
    if (response.status === 204) {
      show("The server answers, but its WebSocket does not. A proxy in between has to forward upgrades of "
        + "/_stcore/stream; docs/remote.md has recipes for nginx, Caddy and Traefik.");
    } else if (response.status === 401 || response.status === 403) {
      show(await response.text());
    }
  }

  // The first stop of the Tab key on a page with a viewer: past navigation and tools, to its first pane.
  document.addEventListener("DOMContentLoaded", () => {
    const skip = document.createElement("button");
    skip.id = "skip";
    skip.type = "button";
    skip.hidden = true;
    skip.textContent = "Skip to the image";
    skip.addEventListener("click", () => firstPane()?.focus());
    document.body.prepend(skip);
    document.addEventListener("keydown", ({ key }) => { if (key === "Tab") shortenTheWay(skip); }, true);
  });

  // The links of the navigation are one stop of the Tab key, as the buttons of a toolbar; arrow keys move between them. The
  // logo is another link to Home. On a page with a viewer nothing without a use of its own is a stop: a second way past the
  // navigation, links of headings to themselves, and the page, whose content has stops.
  function shortenTheWay(skip) {
    const links = navigationLinks(), pane = firstPane();
    const stop = links.find((link) => link === document.activeElement)
      ?? links.find((link) => link.getAttribute("aria-current") === "page") ?? links[0];
    for (const link of links) link.tabIndex = link === stop ? 0 : -1;
    if (links.length) document.querySelector("[data-testid=stLogoLink]")?.setAttribute("tabindex", "-1");
    for (const other of document.querySelectorAll(OTHER_STOPS)) other.tabIndex = pane ? -1 : 0;
    skip.hidden = !pane;
  }

  document.addEventListener("keydown", (event) => {
    const links = navigationLinks(), at = links.indexOf(document.activeElement);
    const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: links.length - 1 }[event.key];
    if (at < 0 || next === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    links[(next + links.length) % links.length].focus();
  });

  const OTHER_STOPS = "[data-testid=stMain], [data-testid=stSkipToContent], [data-testid=stHeaderActionElements] a";

  function navigationLinks() {
    return [...document.querySelectorAll("[data-testid=stTopNavLink]")].filter((link) => link.offsetParent !== null);
  }

  function firstPane() {
    for (const element of document.querySelectorAll("[data-testid=stMain] *")) {
      const pane = element.shadowRoot?.querySelector("canvas.pane");
      if (pane) return pane;
    }
    return null;
  }

  function show(text) {
    let notice = document.getElementById("connection-notice");
    if (!text) return notice?.remove();
    if (!notice) {
      notice = document.createElement("div");
      notice.id = "connection-notice";
      notice.setAttribute("role", "alert");
      document.body.append(notice);
    }
    notice.textContent = text;
  }
})();
