/** Server-sent events over fetch, which unlike EventSource can POST, send a key and be cancelled. */

import { send } from "./api.js";
import { lost } from "./connection.js";
import { ApiProblem, Offline } from "./problem.js";

const SHORTEST_PAUSE_MILLISECONDS = 500;

/** The events {id, kind, data} of an answer, as they come. data: parsed JSON. */
export async function* eventsOf(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    let chunk;
    try {
      chunk = await reader.read();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      lost();
      throw new Offline();
    }
    if (chunk.done) return;
    text += chunk.value;
    let end;
    while ((end = text.indexOf("\n\n")) >= 0) {
      const event = parsed(text.slice(0, end));
      text = text.slice(end + 2);
      if (event) yield event;
    }
  }
}

function parsed(block) {
  const event = { id: null, kind: "message", data: null, retry: null };
  const data = [];
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    if (colon <= 0) continue; // a comment, or a field without a value
    const field = line.slice(0, colon);
    const value = line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") event.kind = value;
    else if (field === "id") event.id = value;
    else if (field === "data") data.push(value);
    else if (field === "retry") event.retry = Number(value);
  }
  if (data.length) event.data = JSON.parse(data.join("\n"));
  return data.length || event.retry !== null ? event : null;
}

/**
 * Follow a stream to its event `end`, connecting again with Last-Event-ID whenever it breaks.
 * Raises ApiProblem when the service refuses it, and AbortError.
 */
export async function follow(path, { signal, onEvent }) {
  let seen = null;
  let pause = 1000;
  for (;;) {
    try {
      const headers = { Accept: "text/event-stream", ...(seen === null ? {} : { "Last-Event-ID": seen }) };
      for await (const event of eventsOf(await send(path, { headers, signal }))) {
        if (event.retry !== null) pause = Math.max(event.retry, SHORTEST_PAUSE_MILLISECONDS);
        if (event.id !== null) seen = event.id;
        if (event.data !== null) onEvent(event);
        if (event.kind === "end") return;
      }
    } catch (error) {
      if (error instanceof Offline) await lost();
      else if (!(error instanceof ApiProblem && error.status === 503)) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
    signal.throwIfAborted();
  }
}
