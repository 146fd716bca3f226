/** Uploads by XMLHttpRequest, because fetch does not tell how much of a body was sent. */

import { keyChanged } from "../core/api.js";
import { lost } from "../core/connection.js";
import { authorization, currentKey } from "../core/key.js";
import { ApiProblem, Offline } from "../core/problem.js";

/**
 * Sends a file or a form. Resolves to the answer. onProgress: (sent, total) in bytes.
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

function sendOnce(path, body, { method = "POST", signal, onProgress }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(method, path);
    if (!(body instanceof FormData)) request.setRequestHeader("Content-Type", "application/octet-stream");
    for (const [header, value] of Object.entries(authorization())) request.setRequestHeader(header, value);
    request.upload.addEventListener("progress", (event) => onProgress(event.loaded, event.total));
    request.addEventListener("load", () => {
      let details = {};
      try {
        details = JSON.parse(request.responseText);
      } catch {
        details = { title: request.statusText };
      }
      if (request.status >= 200 && request.status < 300) resolve(details);
      else reject(new ApiProblem(request.status, details, { get: (name) => request.getResponseHeader(name) }));
    });
    request.addEventListener("error", () => {
      lost();
      reject(new Offline());
    });
    request.addEventListener("abort", () => reject(new DOMException("cancelled", "AbortError")));
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(body);
  });
}
