/** Uploads by XMLHttpRequest, because fetch does not tell how much of a body was sent. */

import { keyChanged } from "../core/api.js";
import { lost } from "../core/connection.js";
import { EVENTS, parsed, resultIn } from "../core/event-stream.js";
import { authorization, currentKey } from "../core/key.js";
import { ApiProblem, Offline } from "../core/problem.js";

/**
 * Sends a file or a form. Resolves to the answer. onSent: (sent, total) in bytes. onProgress: asks the service for events
 * about what it does then, and gets them: {what, done, total, eta_seconds}.
 * Raises ApiProblem, Offline or AbortError.
 */
export async function upload(path, body, options) {
  for (;;) {
    const [key, sentAt] = [currentKey(), performance.now()];
    try {
      return await sendOnce(path, body, options);
    } catch (error) {
      if (error.status !== 401 || !(await keyChanged(key, sentAt))) throw error;
    }
  }
}

function sendOnce(path, body, { method = "POST", signal, onSent, onProgress = null }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const headers = { get: (name) => request.getResponseHeader(name) };
    let [blocksRead, ended] = [0, false];
    request.open(method, path);
    if (onProgress) request.setRequestHeader("Accept", EVENTS);
    if (!(body instanceof FormData)) request.setRequestHeader("Content-Type", "application/octet-stream");
    for (const [header, value] of Object.entries(authorization())) request.setRequestHeader(header, value);

    const hasEvents = () => request.getResponseHeader("Content-Type")?.startsWith(EVENTS);
    function readEvents() {
      const blocks = request.responseText.split("\n\n").slice(blocksRead, -1); // the last one has no end yet
      blocksRead += blocks.length;
      for (const event of blocks.map(parsed).filter(Boolean)) {
        const result = resultIn(event, onProgress, headers);
        if (result) end(resolve, result);
      }
    }
    function readAll() {
      if (hasEvents()) {
        readEvents();
        if (!ended) gone();
        return;
      }
      let details = {};
      try {
        details = JSON.parse(request.responseText);
      } catch {
        details = { title: request.statusText };
      }
      if (request.status >= 200 && request.status < 300) end(resolve, details);
      else throw new ApiProblem(request.status, details, headers);
    }
    const orReject = (work) => () => {
      try {
        work();
      } catch (error) {
        end(reject, error);
      }
    };
    function end(how, what) {
      ended = true;
      how(what);
    }
    function gone() {
      lost();
      end(reject, new Offline());
    }
    request.upload.addEventListener("progress", (event) => onSent(event.loaded, event.total));
    request.addEventListener("progress", orReject(() => hasEvents() && readEvents()));
    request.addEventListener("load", orReject(readAll));
    request.addEventListener("error", gone);
    request.addEventListener("abort", () => end(reject, new DOMException("cancelled", "AbortError")));
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(body);
  });
}
