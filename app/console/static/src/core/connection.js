/** Tells the user when the service cannot be reached, and tries until it answers again. */

import { authorization } from "./key.js";

const PROBE_MILLISECONDS = 2000;
const BACK_MILLISECONDS = 5000;

const region = () => document.getElementById("connection");
let waiting = null;

/** Call this when a request could not be sent. Resolves when the service answers again. */
export function lost() {
  waiting ??= probe();
  return waiting;
}

async function probe() {
  region().classList.remove("is-back");
  region().textContent = "The service cannot be reached. The console keeps trying. What you typed is kept.";
  do await new Promise((resolve) => setTimeout(resolve, PROBE_MILLISECONDS)); while (!(await isReached()));
  waiting = null;
  region().classList.add("is-back");
  region().textContent = "The service is back.";
  setTimeout(() => {
    if (!waiting) region().textContent = "";
  }, BACK_MILLISECONDS);
  document.dispatchEvent(new Event("serviceback"));
}

async function isReached() {
  try {
    const answer = await fetch("/healthz", { cache: "no-store", headers: authorization() });
    return answer.status < 502 || answer.status > 504 || isProblem(answer); // a proxy alone is not the service
  } catch {
    return false;
  }
}

function isProblem(answer) {
  return (answer.headers.get("Content-Type") || "").startsWith("application/problem+json");
}
