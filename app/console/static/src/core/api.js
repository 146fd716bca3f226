/** Sends requests to the service. Bodies and answers are JSON. Refusals are errors, and a 401 asks for an API key. */

import { lost } from "./connection.js";
import { fromJson, toJson } from "./json.js";
import { authorization, currentKey } from "./key.js";
import { ApiProblem, Offline } from "./problem.js";

let askForKey = (_refused) => Promise.resolve(false);

/** Sets the function that asks the user for a key after a 401. It resolves to true when there is a new key. */
export function setKeyAsker(asker) {
  askForKey = asker;
}

let declinedAt = -Infinity;

/** Resolves to true when a request that got 401 should be sent again. key, sentAt: its key, and when it was sent. */
export async function keyChanged(key, sentAt) {
  if (key !== currentKey()) return true; // another request has asked meanwhile
  if (declinedAt >= sentAt) return false;
  if (await askForKey(key !== null)) return true;
  declinedAt = performance.now();
  return false;
}

/** Sends a GET request and returns its JSON answer. query: null, undefined and empty values are left out. */
export async function get(path, { query = {}, signal = null } = {}) {
  return fromJson(await (await send(withQuery(path, query), { signal })).text());
}

/** Yields every page of a list that `next_after` continues. */
export async function* pagesOf(path, { signal = null } = {}) {
  let after = null;
  do {
    const page = await get(path, { query: { after, limit: 200 }, signal });
    yield page;
    after = page.next_after;
  } while (after !== null);
}

/** Sends a request with a JSON body, and returns its JSON answer (null when the answer is empty). */
export async function put(method, path, body, { signal = null, headers = {} } = {}) {
  const sent = body === undefined
    ? { headers }
    : { body: toJson(body), headers: { "Content-Type": "application/json", ...headers } };
  const answer = await send(path, { method, signal, ...sent });
  return answer.status === 204 ? null : fromJson(await answer.text());
}

/** Sends a request and returns its answer, which is a success. Raises ApiProblem, Offline or AbortError. */
export async function send(path, { method = "GET", headers = {}, body = null, signal = null } = {}) {
  for (;;) {
    const [key, sentAt] = [currentKey(), performance.now()];
    let answer;
    try {
      answer = await fetch(path, {
        method,
        body,
        signal,
        cache: "no-store",
        headers: { ...headers, ...authorization() },
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      lost();
      throw new Offline();
    }
    if (answer.ok) return answer;
    const problem = await problemOf(answer);
    if (problem instanceof Offline) {
      lost();
      throw problem;
    }
    if (answer.status !== 401 || !(await keyChanged(key, sentAt))) throw problem;
  }
}

/** Returns a path with its query. */
export function withQuery(path, query) {
  const asked = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    if (value === null || value === undefined || value === "") continue;
    for (const one of [value].flat()) asked.append(key, one);
  }
  return asked.size ? `${path}?${asked}` : path;
}

async function problemOf(answer) {
  const type = answer.headers.get("Content-Type") || "";
  if (!type.includes("json")) {
    // The service's own errors are JSON: this one comes from a proxy that does not reach the service.
    if (answer.status >= 502 && answer.status <= 504) return new Offline();
    return new ApiProblem(answer.status, { title: answer.statusText }, answer.headers);
  }
  const details = await answer.json().catch(() => ({}));
  return new ApiProblem(answer.status, details, answer.headers);
}
