/** Whether the service can be reached: said in a live region, and looked at again until it can. */

import { authorization } from "./key.js";

const PROBE_MILLISECONDS = 2000;
const BACK_MILLISECONDS = 5000;

const region = () => document.getElementById("connection");
let waiting = null;

/** To be called when a request could not be sent; returns a promise of the service's return. */
export function lost() {
  waiting ??= probe();
  return waiting;
}

/** Whether it is away as far as is known. */
export function isAway() {
  return waiting !== null;
}

async function probe() {
  region().classList.remove("is-back");
  region().textContent = "The service cannot be reached. Trying again; nothing that you typed is lost.";
  document.dispatchEvent(new Event("serviceaway"));
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, PROBE_MILLISECONDS));
    try {
      const answer = await fetch("/healthz", { cache: "no-store", headers: authorization() });
      if (answer.status < 502 || answer.status > 504 || isProblem(answer)) break; // a proxy alone is not the service
    } catch {
      continue;
    }
  }
  waiting = null;
  region().classList.add("is-back");
  region().textContent = "The service is back.";
  setTimeout(() => {
    if (!waiting) region().textContent = "";
  }, BACK_MILLISECONDS);
  document.dispatchEvent(new Event("serviceback"));
}

function isProblem(answer) {
  return (answer.headers.get("Content-Type") || "").startsWith("application/problem+json");
}
