// Sends the files of a data set one after the other; the server writes each to disk. Text goes through textContent only.

// One upload of a browser tab, which goes on while its popover is closed and on other pages: what is running, and what
// was said last. Each time the popover is opened its element is another one.
const NOTICE = "upload-notice";
const state = (globalThis.segmentariumUpload ??= { root: null, running: null, failed: "" });

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".root");
  state.data = data;
  state.done = (folder) => setTriggerValue("uploaded", folder);
  if (state.root !== root) {
    state.root = root;
    bindDrop(root, state);
  }
  if (!state.running) renderChoices(root, state);
  else if (!root.contains(state.running.view)) root.replaceChildren(state.running.view);
}

function renderChoices(root, state) {
  const choices = element("div", "choices");
  choices.append(
    picker(root, state, "Upload a ZIP file or files", { multiple: true }),
    picker(root, state, "Upload a folder", { webkitdirectory: true }),
  );
  const note = element("div", "note", `Or drop files here. At most ${state.data.limitText} unpacked; names are kept.`);
  const failed = element("div", "failed", state.failed);
  failed.setAttribute("role", "alert");
  root.replaceChildren(choices, note, ...(state.failed ? [failed] : []));
}

function picker(root, state, text, attributes) {
  const button = element("button", "", text), input = element("input");
  Object.assign(input, { type: "file", hidden: true }, attributes);
  button.type = "button";
  button.onclick = () => input.click();
  input.onchange = () => start(root, state, [...input.files].map((file) => [file.webkitRelativePath || file.name, file]));
  const both = element("span");
  both.append(button, input);
  return both;
}

function bindDrop(root, state) {
  root.addEventListener("dragover", (event) => { event.preventDefault(); root.classList.add("dropping"); });
  root.addEventListener("dragleave", () => root.classList.remove("dropping"));
  root.addEventListener("drop", (event) => {
    event.preventDefault();
    root.classList.remove("dropping");
    const files = [...event.dataTransfer.items].filter((item) => !item.webkitGetAsEntry?.()?.isDirectory);
    if (files.length < event.dataTransfer.items.length) {
      state.failed = "A folder cannot be dropped: use the button for folders, or drop a ZIP file of it.";
      if (!state.running) renderChoices(root, state);
      return;
    }
    start(root, state, [...event.dataTransfer.files].map((file) => [file.name, file]));
  });
}

async function start(root, state, files) {
  if (!files.length || state.running) return;
  const total = files.reduce((sum, [, file]) => sum + file.size, 0);
  state.failed = "";
  const run = { cancelled: false, request: null, id: null, view: element("div") };
  state.running = run;
  const bar = element("progress"), text = element("div", "note"), cancel = element("button", "", "Cancel");
  cancel.type = "button";
  cancel.onclick = () => { run.cancelled = true; run.request?.abort(); };
  Object.assign(bar, { max: Math.max(total, 1), value: 0 });
  text.setAttribute("aria-live", "polite");
  run.view.append(text, bar, cancel);
  root.replaceChildren(run.view);
  const watch = setInterval(() => showElsewhere(state, text, bar), 300);
  const { api, limit, limitText } = state.data;
  try {
    if (total > limit) throw new Error(`The files have more than ${limitText}; copy them into the data root instead.`);
    run.id = (await send(run, api)).id;
    let sent = 0, number = 0;
    for (const [name, file] of files) {
      number += 1;
      text.textContent = files.length > 1 ? `Uploading file ${number} of ${files.length}` : `Uploading ${name}`;
      const before = sent;
      await send(run, `${api}/${run.id}?name=${encodeURIComponent(name)}`, file, (bytes) => { bar.value = before + bytes; });
      sent += file.size;
    }
    text.textContent = "Unpacking";
    bar.removeAttribute("value");
    const first = files[0][0].split("/")[0];
    const name = files.length === 1 ? first.replace(/\.(zip|nii|nii\.gz)$/i, "") : "upload";
    const { folder } = await send(run, `${api}/${run.id}/finish?name=${encodeURIComponent(name)}`);
    state.running = null;
    const seen = state.root.isConnected;
    renderChoices(state.root, state);
    if (seen) state.done(folder);
    else showNotice(`Uploaded: ${folder}`, folder);
  } catch (error) {
    state.failed = run.cancelled ? "" : error.message;
    state.running = null;
    if (run.id) send({}, `${api}/${run.id}/cancel`).catch(() => {});
    renderChoices(state.root, state);
    if (state.failed && !state.root.isConnected) showNotice(`The upload failed: ${state.failed}`);
  } finally {
    clearInterval(watch);
  }
}

// The progress while the popover is closed, or another page is shown.
function showElsewhere(state, text, bar) {
  if (state.root.isConnected) return document.getElementById(NOTICE)?.remove();
  const percent = bar.hasAttribute("value") ? `: ${Math.round((100 * bar.value) / bar.max)} %` : "";
  showNotice(text.textContent + percent);
}

function showNotice(text, folder = "") {
  let notice = document.getElementById(NOTICE);
  if (!notice) {
    notice = element("div");
    notice.id = NOTICE;
    notice.setAttribute("role", "status");
    document.body.append(notice);
  }
  if (notice.dataset.text === text) return;
  notice.dataset.text = text;
  notice.replaceChildren(element("span", "", text));
  if (folder) {
    const open = element("a", "", "Open it");
    open.href = new URL(`data?${new URLSearchParams({ data: folder })}`, location.href);
    notice.append(open);
  }
  if (state.running) return;
  const close = element("button", "", "Close");
  close.type = "button";
  close.onclick = () => notice.remove();
  notice.append(close);
}

// XMLHttpRequest and not fetch, which does not say how much has been sent.
function send(run, path, body = null, onProgress = () => {}) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    run.request = request;
    request.open("POST", new URL(path, document.baseURI));
    request.upload.onprogress = (event) => onProgress(event.loaded);
    request.onload = () => {
      let answer = {};
      try { answer = JSON.parse(request.responseText || "{}"); } catch { /* an error page of a proxy */ }
      if (request.status < 300) resolve(answer);
      else reject(new Error(answer.error ?? `The server refused the file (${request.status}).`));
    };
    request.onerror = () => reject(new Error("The connection to the server broke off. Upload it again."));
    request.onabort = () => reject(new Error("cancelled"));
    request.send(body);
  });
}

function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}
