/** The service, as the page calls it. Errors carry the service's own words, which tell the fix. */

import { eventsOf } from "./sse.js";

const KEY = "minions-key";
const UNREACHABLE =
  "The service does not answer. Is `minions serve` still running? The page keeps trying.";
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 8000;

export class ServiceError extends Error {
  /** `status` is 0 when no answer came at all. */
  constructor(message, { status = 0, code = "unreachable", retryAfterS = null } = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfterS = retryAfterS;
  }
}

let askForKey = async () => null;

/** `ask(message)` gives a key, or null when the person has none. */
export function whenAKeyIsNeeded(ask) {
  askForKey = ask;
}

export function hasKey() {
  return sessionStorage.getItem(KEY) !== null;
}

export function forgetKey() {
  sessionStorage.removeItem(KEY);
}

/** One request; its JSON. Raises ServiceError. */
export async function call(method, path, { json, form, signal } = {}) {
  const body = json === undefined ? form : JSON.stringify(json);
  const headers = json === undefined ? {} : { "Content-Type": "application/json" };
  const response = await send(path, { method, body, headers, signal });
  return response.status === 204 ? null : response.json();
}

/** The bytes at a path. */
export async function bytesAt(path, signal) {
  const response = await send(path, { signal });
  return new Uint8Array(await response.arrayBuffer());
}

/** All of a cursor list, or its first `most` items. */
export async function listOf(path, { most = Infinity, order = "desc" } = {}) {
  const items = [];
  let after = null;
  do {
    const query = new URLSearchParams({ limit: String(Math.min(100, most - items.length)), order });
    if (after) query.set("after", after);
    const page = await call("GET", `${path}?${query}`);
    items.push(...page.data);
    after = page.has_more ? page.last_id : null;
  } while (after && items.length < most);
  return items;
}

/**
 * The events of a question, from the first, taken up again where they broke off, until `done`.
 * `onLost(lost)` is told when the connection is lost and when it is back.
 */
export async function* follow(questionId, { signal, onLost = () => {} } = {}) {
  let last = null;
  let wait = FIRST_WAIT_MS;
  while (!signal?.aborted) {
    try {
      const headers = last === null ? {} : { "Last-Event-ID": last };
      const response = await send(`/v1/questions/${questionId}/events`, { headers, signal });
      onLost(false);
      for await (const { id, event, data } of eventsOf(response)) {
        last = id ?? last;
        wait = FIRST_WAIT_MS;
        yield { event, data: data ? JSON.parse(data) : {} };
        if (event === "done") return;
      }
    } catch (error) {
      if (signal?.aborted) return;
      if (error instanceof ServiceError && isFinal(error)) throw error;
    }
    onLost(true);
    await pause(wait, signal);
    wait = Math.min(wait * 2, LONGEST_WAIT_MS);
  }
}

function isFinal(error) {
  return error.status >= 400 && error.status < 500 && error.status !== 429;
}

function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}

async function send(path, { method = "GET", body, headers = {}, signal } = {}) {
  for (;;) {
    const used = sessionStorage.getItem(KEY);
    const response = await reach(path, { method, body, headers: withKey(headers, used), signal });
    if (response.ok) return response;
    const error = await errorOf(response);
    if (response.status !== 401) throw error;
    if (used !== sessionStorage.getItem(KEY)) continue; // another request has been given a key
    const key = await askForKey(used === null ? null : error.message);
    if (!key) throw error;
    sessionStorage.setItem(KEY, key);
  }
}

function withKey(headers, key) {
  return key === null ? headers : { ...headers, Authorization: `Bearer ${key}` };
}

async function reach(path, request) {
  try {
    return await fetch(path, request);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServiceError(UNREACHABLE);
  }
}

async function errorOf(response) {
  const known = { status: response.status, code: `http_${response.status}` };
  const retryAfterS = Number(response.headers.get("Retry-After")) || null;
  try {
    const { error } = await response.json();
    return new ServiceError(error.message, {
      ...known,
      code: error.code ?? known.code,
      retryAfterS,
    });
  } catch {
    const text = `The service answered ${response.status} without saying why. Its log has more.`;
    return new ServiceError(text, { ...known, retryAfterS });
  }
}
