/** The page's start: makes the parts, introduces them to each other, loads what the service has. */

import { forgetKey, hasKey, whenAKeyIsNeeded } from "./api.js";
import { Composer } from "./composer.js";
import { Documents } from "./documents.js";
import { byId, show } from "./dom.js";
import { showEvals, showNodes } from "./house.js";
import { askForKey } from "./key_prompt.js";
import { announce } from "./notices.js";
import { OptionsForm } from "./options.js";
import { showSavings } from "./savings.js";
import { Thread } from "./thread.js";
import { Viewer } from "./viewer.js";

const SAMPLE = "/assets/sample.pdf";
const SAMPLE_QUESTION = "Which state's law governs this contract?";

async function start() {
  whenAKeyIsNeeded(askForKey);
  const viewer = new Viewer();
  const documents = new Documents({ viewer, announce, onChange: () => changed() });
  const thread = new Thread({ viewer, documents, announce, onEnd: () => told(showSavings()) });
  const composer = new Composer({
    documents,
    options: new OptionsForm(),
    onAsk: (body) => thread.ask(body),
  });
  const changed = () => {
    composer.refresh();
    show(byId("welcome"), documents.isEmpty && thread.isEmpty);
  };
  byId("welcome-choose").addEventListener("click", () => byId("files").click());
  byId("sample").addEventListener("click", () => told(trySample(documents, composer)));
  openOnDemand("nodes-panel", showNodes);
  openOnDemand("evals-panel", showEvals);
  await told(load(documents, thread));
  byId("desk").removeAttribute("aria-busy");
  showSignOut();
}

async function load(documents, thread) {
  await documents.load();
  await thread.load();
  await showSavings();
}

async function trySample(documents, composer) {
  const response = await fetch(SAMPLE);
  await documents.add([
    new File([await response.blob()], "contract.pdf", { type: "application/pdf" }),
  ]);
  byId("question").value = SAMPLE_QUESTION;
  composer.focus();
}

/** A panel asks the service anew whenever it is opened. */
function openOnDemand(id, load) {
  const panel = byId(id);
  panel.addEventListener("toggle", () => panel.open && told(load()));
}

function showSignOut() {
  show(byId("forget-key"), hasKey());
  byId("forget-key").addEventListener("click", () => {
    forgetKey();
    location.reload();
  });
}

/** Wait for work; what goes wrong is told in the page. */
async function told(work) {
  try {
    await work;
  } catch (error) {
    announce(error.message, { trouble: true });
  }
}

start();
