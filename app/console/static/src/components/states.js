/** Loading, empty, in trouble. */

import { el, fill } from "../core/dom.js";
import { clock, duration } from "../core/format.js";
import { ApiProblem, explain, Offline } from "../core/problem.js";

/** While something is on its way. */
export function loading(what = "Loading") {
  return el("p", { class: "loading", role: "status" }, `${what}…`);
}

/** When there is nothing yet. actions: links and buttons. */
export function empty(title, text, ...actions) {
  return el(
    "div",
    { class: "empty" },
    el("h2", {}, title),
    el("p", { class: "soft" }, text),
    el("div", { class: "actions" }, actions),
  );
}

/**
 * An error in plain words. again: what the button tries; unasked: it is tried by itself, too, once the service is back;
 * leftOver: faults that belong to no field on the page.
 */
export function problemNotice(error, { again, unasked = false, leftOver = [] } = {}) {
  const { title, text } = explain(error);
  const notice = el(
    "div",
    { class: "notice problem", role: "alert" },
    el("p", { class: "notice-title" }, title),
    el("p", {}, text),
  );
  if (leftOver.length > 1 || (leftOver.length && !text.includes(leftOver[0].detail))) {
    notice.append(el("ul", {}, leftOver.map((fault) => el("li", {}, `${fault.pointer}: ${fault.detail}`))));
  }
  if (error instanceof ApiProblem && error.requestId) {
    notice.append(el("p", { class: "small" }, "Request ", el("code", {}, error.requestId)));
  }
  if (again) notice.append(tryAgain(error.retryAfterSeconds, again));
  if (unasked && error instanceof Offline) {
    document.addEventListener("serviceback", () => notice.isConnected && again(), { once: true });
  }
  return notice;
}

/** A button that waits as long as the service asked for. */
function tryAgain(seconds, again) {
  const button = el("button", { type: "button", on: { click: again } }, "Try again");
  if (!seconds) return el("div", { class: "actions" }, button);
  const end = Date.now() + seconds * 1000;
  const words = el("span", { class: "small" });
  button.disabled = true;
  const tick = () => {
    const left = Math.ceil((end - Date.now()) / 1000);
    button.disabled = left > 0;
    words.textContent = left > 0
      ? `It asks to wait ${left < 90 ? `${left} s` : `${duration(left)}, until ${clock(end)}`}.`
      : "It can be tried again now.";
    if (left <= 0) clearInterval(timer);
  };
  const timer = setInterval(tick, 250);
  tick();
  return el("div", { class: "actions" }, button, words);
}

/** Show `load()`'s element in `place`, with its states. Returns when it is shown or has failed. */
export async function shown(place, load, what) {
  fill(place, loading(what));
  try {
    fill(place, await load());
  } catch (error) {
    if (error.name !== "AbortError") {
      fill(
        place,
        problemNotice(error, { again: () => shown(place, load, what), unasked: true }),
      );
    }
  }
}
