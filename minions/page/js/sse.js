/**
 * Server-sent events over fetch. The browser's own EventSource can send no key and tells no error,
 * so the stream is read here; the format is that of the HTML standard.
 */

/** Turns text, in pieces of any size, into events: {id, event, data}. */
export class EventParser {
  #buffer = "";
  #fields = { id: null, event: "message", data: [] };

  /** The events that are complete with this piece. */
  push(text) {
    this.#buffer += text;
    const events = [];
    for (let line = this.#takeLine(); line !== null; line = this.#takeLine()) {
      const event = this.#line(line);
      if (event) events.push(event);
    }
    return events;
  }

  #takeLine() {
    const end = this.#buffer.search(/\r|\n/);
    // A final \r may be the first half of \r\n: wait for what follows.
    if (end < 0 || (this.#buffer[end] === "\r" && end === this.#buffer.length - 1)) return null;
    const width = this.#buffer.startsWith("\r\n", end) ? 2 : 1;
    const line = this.#buffer.slice(0, end);
    this.#buffer = this.#buffer.slice(end + width);
    return line;
  }

  #line(line) {
    if (line === "") return this.#dispatch();
    const [, name, value] = /^([^:]*)(?::\s?(.*))?$/s.exec(line);
    if (name === "data") this.#fields.data.push(value ?? "");
    else if (name === "event" || name === "id") this.#fields[name] = value ?? "";
    return null;
  }

  #dispatch() {
    const { id, event, data } = this.#fields;
    this.#fields = { id: null, event: "message", data: [] };
    return data.length ? { id, event, data: data.join("\n") } : null;
  }
}

/** The events of one response body, until it ends. */
export async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const parser = new EventParser();
  try {
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      yield* parser.push(piece.value);
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}
