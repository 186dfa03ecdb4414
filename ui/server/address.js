// The address: one entry of history per page, written by that page alone. Streamlit adds an entry for every query
// parameter, and writes parameters when they arrive but moves to another page when it has rendered it: on a busy machine
// the next page writes into the address of this one, and one that was left into the address of the page after "Back".
// The messages of the server say which page parameters belong to; FIELDS has the numbers of their fields.
const serverMessages = (() => {
  const KEPT = 100; // parameters whose page is remembered
  const push = history.pushState.bind(history), replace = history.replaceState.bind(history);
  const names = new Map(), owners = new Map(); // names of pages in addresses by page; pages by query
  let running = null; // page of the last run that the server has begun
  let shown = null; // page that the server has run last
  let asked = null; // page that the browser has asked for, until the server runs it

  history.replaceState = (state, unused, url) => {
    const owner = names.get(owners.get(String(url ?? "").split("?")[1] ?? ""));
    if (owner === undefined || owner === nameAt(location.pathname)) replace(state, unused, url);
  };
  history.pushState = (state, unused, url) => {
    const target = nameAt(new URL(url ?? location.href, location.href).pathname);
    if (target === nameAt(location.pathname)) return history.replaceState(state, unused, url);
    const expected = names.get(asked ?? shown);
    if (expected === undefined || expected === target) push(state, unused, url);
  };

  function nameAt(path) {
    const last = path.split("/").pop();
    return [...names.values()].includes(last) ? last : ""; // the start page has no name
  }

  // Notes what a message says of pages; whether Streamlit may have it. A part of a page that was left, which the browser
  // asked for before it knew, begins as a run of that page: Streamlit would empty the page that is shown.
  function received(bytes) {
    for (const [number, content] of fields(bytes)) {
      if (number === FIELDS.newSession) {
        const page = text(content, FIELDS.newSessionPage);
        if (shown !== null && page !== shown && isPart(bytes)) return false;
        running = page;
        if (names.has(running)) arrived(running);
      }
      if (number === FIELDS.pageInfo) remember(text(content, FIELDS.pageInfoQuery), running);
      if (number === FIELDS.navigation) {
        for (const [inner, page] of fields(content)) {
          if (inner === FIELDS.navigationPages) names.set(text(page, FIELDS.pageHash), text(page, FIELDS.pageName));
        }
        arrived(text(content, FIELDS.navigationPage));
      }
    }
    return true;
  }

  // Whether a message is of the run of a part of a page.
  function isPart(bytes) {
    let content = bytes;
    for (const wanted of [FIELDS.metadata, FIELDS.metadataRun]) {
      content = [...fields(content)].find(([number]) => number === wanted)?.[1] ?? new Uint8Array();
    }
    return text(content, FIELDS.runFragments) !== "";
  }

  // The server runs a page. Of a run that leads to another page at once, the server may drop every message but the first.
  function arrived(page) {
    shown = page;
    if (shown === asked) asked = null;
  }

  // Whether a request is of use: a part of a page that is left has nothing to run, and Streamlit would empty the next page.
  function isWanted(bytes) {
    for (const [number, content] of fields(bytes)) {
      if (number !== FIELDS.rerun) continue;
      const page = text(content, FIELDS.rerunPage);
      if (text(content, FIELDS.rerunFragment)) return [null, page].includes(asked ?? shown);
      if (asked !== null) dropParametersOfOtherPage(content, page);
      asked = page || null;
    }
    return true;
  }

  // A click on the page that is left by "Back", before the answer: Streamlit takes it for a click on the page that is shown,
  // and sends the parameters of the address with it, which are those of the other page. They are overwritten with separators.
  function dropParametersOfOtherPage(request, page) {
    if (!names.has(page) || names.get(page) === nameAt(location.pathname)) return;
    for (const [number, content] of fields(request)) {
      const isAddress = number === FIELDS.rerunQuery && new TextDecoder().decode(content) === location.search.slice(1);
      if (isAddress) content.fill("&".charCodeAt(0));
    }
  }

  // A request with another query than the address, as of a link to the same page, is marked as one of the history is. The
  // server takes those at their word; others may have been sent before the server changed the address. So may a request of
  // a part of a page, as of a timer, which leads nowhere: Streamlit changes the address a moment before what it sends.
  function marked(bytes) {
    for (const [number, content] of fields(bytes)) {
      if (number !== FIELDS.rerun || text(content, FIELDS.rerunQuery) === location.search.slice(1)) continue;
      if (text(content, FIELDS.rerunFragment)) continue;
      const mark = [...varint(FIELDS.rerunHistory * 8), 1]; // fields of a message that comes twice are united
      return new Uint8Array([...bytes, ...varint(FIELDS.rerun * 8 + 2), mark.length, ...mark]);
    }
    return bytes;
  }

  function varint(value) {
    return value < 128 ? [value] : [(value % 128) + 128, ...varint(Math.floor(value / 128))];
  }

  function remember(query, page) {
    owners.delete(query);
    owners.set(query, page);
    if (owners.size > KEPT) owners.delete(owners.keys().next().value);
  }

  // Fields of a protocol buffer with a length (wire type 2), which strings and messages are; others are skipped.
  function* fields(bytes) {
    let at = 0;
    const varint = () => {
      let value = 0, factor = 1, byte;
      do { byte = bytes[at++]; value += (byte & 127) * factor; factor *= 128; } while (byte & 128);
      return value;
    };
    while (at < bytes.length) {
      const tag = varint(), kind = tag % 8;
      if (kind === 0) varint();
      else if (kind === 1) at += 8;
      else if (kind === 5) at += 4;
      else if (kind === 2) {
        const length = varint();
        yield [(tag - kind) / 8, bytes.subarray(at, at + length)];
        at += length;
      } else return;
    }
  }

  function text(bytes, wanted) {
    for (const [number, content] of fields(bytes)) if (number === wanted) return new TextDecoder().decode(content);
    return "";
  }

  return { received, isWanted, marked };
})();
