/** Reads server-sent events by fetch. Unlike EventSource it can POST, send a key and be cancelled. */

import { send } from "./api.js";
import { lost } from "./connection.js";
import { ApiProblem, Offline } from "./problem.js";

const FIRST_PAUSE_MILLISECONDS = 1000;
const SHORTEST_PAUSE_MILLISECONDS = 500;
const TURN_MILLISECONDS = 2000;
const LOCK = "darkroom event stream";

export const EVENTS = "text/event-stream";

/** Yields the events {id, kind, data, retry} of an answer as they come. data: parsed JSON. */
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
    const blocks = (text + chunk.value).split("\n\n");
    text = blocks.pop(); // the start of an event whose end has not come yet
    yield* blocks.map(parsed).filter(Boolean);
  }
}

/** Returns the event {id, kind, data, retry} that a block of lines holds, or null. */
export function parsed(block) {
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
 * Sends a request for work that takes long, and returns its result. onProgress gets {what, done, total, eta_seconds}.
 * Raises ApiProblem, Offline or AbortError.
 */
export async function awaitResult(path, { onProgress, headers = {}, ...options }) {
  const answer = await send(path, { ...options, headers: { Accept: EVENTS, ...headers } });
  for await (const event of eventsOf(answer)) {
    const result = resultIn(event, onProgress, answer.headers);
    if (result) return result;
  }
  lost();
  throw new Offline();
}

/** Returns the data of an event `done`, and null for an event `progress`. Raises the ApiProblem of an event `error`. */
export function resultIn({ kind, data }, onProgress, headers) {
  if (kind === "error") throw new ApiProblem(data.status, data, headers);
  if (kind === "progress") onProgress(data);
  return kind === "done" ? data : null;
}

/**
 * Follows a stream to its event `end`. Connects again with Last-Event-ID when the stream breaks or says `reconnect`.
 * A browser follows one stream at a time: its tabs take turns, and a hidden tab waits until it is shown.
 * Raises ApiProblem when the service refuses it, and AbortError.
 */
export async function follow(path, { signal, onEvent }) {
  const state = { seen: null, pause: FIRST_PAUSE_MILLISECONDS };
  for (;;) {
    await shown(signal);
    try {
      if (await inTurn(signal, (turn) => followOnce(path, state, { signal: turn, onEvent }))) return;
    } catch (error) {
      if (error instanceof Offline) await lost();
      else if (!(error instanceof ApiProblem && [429, 503].includes(error.status))) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, state.pause));
    signal.throwIfAborted();
  }
}

/** Resolves when the tab is shown. Raises AbortError. */
async function shown(signal) {
  if (!document.hidden) return;
  await new Promise((resolve, reject) => {
    document.addEventListener("visibilitychange", resolve, { once: true, signal });
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

/**
 * Calls `work` while no other tab does. A browser opens six connections to a service over HTTP/1, for all tabs together.
 * work: gets a signal that also ends when the tab is hidden, and when other tabs have waited for a turn's time.
 * Resolves to its result, or to false when the turn has ended. Raises its errors, and AbortError.
 */
function inTurn(signal, work) {
  const locks = navigator.locks || ALWAYS_FREE;
  return locks.request(LOCK, { signal }, async () => {
    if (document.hidden) return false; // since it began to wait
    const turn = new AbortController();
    const own = AbortSignal.any([signal, turn.signal]);
    document.addEventListener("visibilitychange", () => turn.abort(), { signal: own });
    const timer = setInterval(async () => {
      if ((await locks.query()).pending.some((one) => one.name === LOCK)) turn.abort();
    }, TURN_MILLISECONDS);
    try {
      return await work(own);
    } catch (error) {
      if (turn.signal.aborted && !signal.aborted && error.name === "AbortError") return false;
      throw error;
    } finally {
      clearInterval(timer);
      turn.abort();
    }
  });
}

/** Stands in for Web Locks, which a browser lacks on a page that came by plain HTTP from another machine. */
const ALWAYS_FREE = {
  request: (_name, _options, work) => work(),
  query: () => Promise.resolve({ pending: [] }),
};

/** Follows one connection. Resolves to true after the event `end`. state: {seen, pause}, changed by what it reads. */
async function followOnce(path, state, { signal, onEvent }) {
  const headers = { Accept: EVENTS, ...(state.seen === null ? {} : { "Last-Event-ID": state.seen }) };
  for await (const event of eventsOf(await send(path, { headers, signal }))) {
    if (event.retry !== null) state.pause = Math.max(event.retry, SHORTEST_PAUSE_MILLISECONDS);
    if (event.id !== null) state.seen = event.id;
    if (event.kind === "reconnect") return false; // the service stops
    if (event.data !== null) onEvent(event);
    if (event.kind === "end") return true;
  }
  return false;
}
