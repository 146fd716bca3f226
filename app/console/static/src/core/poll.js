/** Repeats a request while a page is open. */

import { lost } from "./connection.js";
import { Offline } from "./problem.js";

/**
 * Calls `look` now and at every interval until the signal. It pauses while the tab is hidden.
 * After a refusal it waits as long as the service asks. When the user gives no key, it waits until there is one.
 * onError gets an error once, however often it comes in a row.
 */
export async function poll(look, milliseconds, signal, onError = (_error) => {}) {
  let shown = null;
  let declined = false;
  document.addEventListener("keydeclined", () => {
    declined = true;
  }, { signal });
  document.addEventListener("keychange", () => {
    declined = false;
  }, { signal });

  /** Looks once, and resolves to the time until the next look. */
  async function lookOnce() {
    if (document.hidden || declined) return milliseconds;
    try {
      await look();
      shown = null;
    } catch (error) {
      if (error.name === "AbortError") return 0;
      if (error.message !== shown) onError(error);
      shown = error.message;
      if (error instanceof Offline) {
        await lost();
        return 0;
      }
      return Math.max(milliseconds, 1000 * (error.retryAfterSeconds || 0));
    }
    return milliseconds;
  }

  while (!signal.aborted) await pause(await lookOnce(), signal);
}

/** Waits, at most until the signal. */
export function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, milliseconds);
    signal.addEventListener("abort", end);
  });
}
