/** Requests to the service: JSON in and out, problems and absence as errors, a key when one is asked for. */

import { lost } from "./connection.js";
import { toJson } from "./json.js";
import { authorization, currentKey } from "./key.js";
import { ApiProblem, Offline } from "./problem.js";

let askForKey = async () => false;

/** What asks the person for a key after a 401; resolves to whether there is another one now. */
export function setKeyAsker(asker) {
  askForKey = asker;
}

let declinedAt = -Infinity;

/** Whether a request that was refused with 401 is worth repeating. key, sentAt: what it was sent with, and when. */
export async function keyChanged(key, sentAt) {
  // another request may have asked meanwhile
  if (key !== currentKey()) return true;
  if (declinedAt >= sentAt) return false;
  if (await askForKey(key !== null)) return true;
  declinedAt = performance.now();
  return false;
}

/** A GET with a JSON answer. query: values that are null or empty are left out. */
export async function get(path, { query = {}, signal } = {}) {
  return (await send(withQuery(path, query), { signal })).json();
}

/** A request with a JSON body and a JSON answer (null for none). */
export async function put(method, path, body, { signal, headers = {} } = {}) {
  const sent = body === undefined
    ? {}
    : { body: toJson(body), headers: { "Content-Type": "application/json", ...headers } };
  const answer = await send(path, { method, signal, ...sent });
  return answer.status === 204 ? null : answer.json();
}

/** Send it; the answer's status is a success. Raises ApiProblem, Offline and AbortError. */
export async function send(path, { method = "GET", headers = {}, body, signal } = {}) {
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

/** A path with its query. */
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
    if (answer.status >= 502 && answer.status <= 504) return new Offline(); // a proxy speaks: the service is away
    return new ApiProblem(answer.status, { title: answer.statusText }, answer.headers);
  }
  const details = await answer.json().catch(() => ({}));
  return new ApiProblem(answer.status, details, answer.headers);
}
