/** Looking again and again while a page is open. */

import { lost } from "./connection.js";
import { Offline } from "./problem.js";

/** Run `look` now and every so often until the signal; not while nobody sees the page. onError: of one look. */
export async function poll(look, milliseconds, signal, onError = () => {}) {
  while (!signal.aborted) {
    if (!document.hidden) {
      try {
        await look();
      } catch (error) {
        if (error.name === "AbortError") return;
        onError(error);
        if (error instanceof Offline) {
          await lost();
          continue;
        }
      }
    }
    await pause(milliseconds, signal);
  }
}

/** Wait, at most until the signal. */
export function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    }, { once: true });
  });
}
