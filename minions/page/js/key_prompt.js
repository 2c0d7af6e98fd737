/** Asks for an API key when the service wants one. */

import { byId, fill, prose } from "./dom.js";

let waiting = null;

/** A key, or null when the person has none. One prompt serves all requests that wait for it. */
export function askForKey(refusal) {
  waiting ??= prompted(refusal).finally(() => (waiting = null));
  return waiting;
}

function prompted(refusal) {
  const dialog = byId("key-dialog");
  const input = byId("key");
  fill(byId("key-refusal"), prose(refusal ?? ""));
  input.value = "";
  dialog.returnValue = "";
  byId("key-later").onclick = () => dialog.close();
  dialog.showModal();
  return new Promise((resolve) => {
    const closed = () => resolve(dialog.returnValue === "use" ? input.value.trim() || null : null);
    dialog.addEventListener("close", closed, { once: true });
  });
}
