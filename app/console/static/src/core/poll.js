/** Looking again and again while a page is open. */

import { lost } from "./connection.js";
import { Offline } from "./problem.js";

/**
 * Run `look` now and every so often until the signal; not while nobody sees the page. onError: of one look.
 * Refused, it waits as long as the service asks for; and where somebody would not give a key, until there is one.
 */
export async function poll(look, milliseconds, signal, onError = () => {}) {
  let told = null;
  let declined = false; // who has closed the question is not asked again every few seconds
  document.addEventListener("keydeclined", () => (declined = true), { signal });
  document.addEventListener("keychange", () => (declined = false), { signal });
  while (!signal.aborted) {
    let wait = milliseconds;
    if (!document.hidden && !declined) {
      try {
        await look();
        told = null;
      } catch (error) {
        if (error.name === "AbortError") return;
        if (error.message !== told) onError(error); // said once, not at every look
        told = error.message;
        if (error instanceof Offline) {
          await lost();
          continue;
        }
        wait = Math.max(wait, 1000 * (error.retryAfterSeconds || 0));
      }
    }
    await pause(wait, signal);
  }
}

/** Wait, at most until the signal. */
export function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, milliseconds);
    signal?.addEventListener("abort", end);
  });
}
