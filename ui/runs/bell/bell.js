// A button that turns notifications of the browser on and off. The choice is kept in KEY of the local storage, where
// ui/server/notifications.js reads it.

const KEY = "segmentarium.notify";

export default function ({ parentElement }) {
  const root = parentElement.querySelector(".root");
  if (root.childElementCount) return;
  const button = document.createElement("button");
  button.type = "button";
  root.append(button);
  const show = () => {
    const known = "Notification" in window, denied = known && Notification.permission === "denied";
    const on = known && Notification.permission === "granted" && localStorage.getItem(KEY) === "on";
    button.textContent = on ? "Notifies when runs end" : "Notify when runs end";
    button.setAttribute("aria-pressed", String(on));
    button.disabled = !known || denied;
    button.title = !known
      ? "Browsers allow notifications on https and on localhost only"
      : denied
        ? "The browser blocks notifications of this page; allow them in its settings"
        : "A notification of the browser, as long as any page of this app is open";
  };
  button.onclick = async () => {
    const on = button.getAttribute("aria-pressed") === "true";
    if (!on) await Notification.requestPermission();
    localStorage.setItem(KEY, on ? "off" : "on");
    show();
  };
  show();
}
