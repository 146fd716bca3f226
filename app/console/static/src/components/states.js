/** What a page shows while it loads, when there is nothing yet, and when something goes wrong. */

import { el, fill } from "../core/dom.js";
import { clock, duration } from "../core/format.js";
import { ApiProblem, explain, Offline } from "../core/problem.js";
import { button } from "./button.js";

/** Makes the text that is shown while something loads. */
export function loading(what = "Loading") {
  return el("p", { class: "loading", role: "status" }, `${what}…`);
}

/** Makes what is shown when there is nothing yet. actions: links and buttons. */
export function empty(title, text, ...actions) {
  const parts = [el("h2", {}, title), el("p", { class: "soft" }, text), el("div", { class: "actions" }, actions)];
  return el("div", { class: "empty" }, parts);
}

/** Makes a notice with a title. */
export function notice(kind, title, ...content) {
  return el("div", { class: `notice ${kind}` }, el("p", { class: "notice-title" }, title), content);
}

/**
 * Makes a notice that explains an error. The button "Try again" calls `again`. With `unasked`, the page also calls it
 * when the service is back, or no longer asks to wait. The faults of `leftOver` belong to no field on the page.
 */
export function problemNotice(error, { again = null, unasked = false, leftOver = [] } = {}) {
  const { title, text } = explain(error);
  const node = notice("problem", title, el("p", {}, text));
  node.setAttribute("role", "alert");
  if (leftOver.length > 1 || (leftOver.length && !text.includes(leftOver[0].detail))) {
    node.append(el("ul", {}, leftOver.map((fault) => el("li", {}, `${fault.pointer}: ${fault.detail}`))));
  }
  if (error instanceof ApiProblem && error.requestId) {
    node.append(el("p", { class: "small" }, "Request ", el("code", {}, error.requestId)));
  }
  if (again) node.append(tryAgain(error.retryAfterSeconds, again, unasked));
  if (unasked && error instanceof Offline) {
    document.addEventListener("serviceback", () => node.isConnected && again(), { once: true });
  }
  return node;
}

/** Shows an error in `place`. An AbortError means that the user has left the page, or cancelled, and is not shown. */
export function showProblem(place, error, options = {}) {
  if (error.name !== "AbortError") fill(place, problemNotice(error, options));
}

/** Makes a button that waits as long as the service asks. unasked: then it presses itself, if it is still shown. */
function tryAgain(seconds, again, unasked) {
  const retry = button("Try again", again);
  if (!seconds) return el("div", { class: "actions" }, retry);
  const end = Date.now() + seconds * 1000;
  const words = el("span", { class: "small" });
  const tick = () => {
    const left = Math.ceil((end - Date.now()) / 1000);
    retry.disabled = left > 0;
    const wait = `The service asks you to wait ${waitOf(left, end)}.${unasked ? " Then this page tries again." : ""}`;
    words.textContent = left > 0 ? wait : "You can try again now.";
    if (left > 0) return;
    clearInterval(timer);
    if (unasked && retry.isConnected) again();
  };
  const timer = setInterval(tick, 250);
  tick();
  return el("div", { class: "actions" }, retry, words);
}

function waitOf(seconds, end) {
  return seconds < 90 ? `${seconds} s` : `${duration(seconds)}, until ${clock(end)}`;
}

/** Shows the element that `load()` resolves to in `place`. Returns when it is shown or has failed. */
export async function shown(place, load, what) {
  fill(place, loading(what));
  try {
    fill(place, await load());
  } catch (error) {
    showProblem(place, error, { again: () => shown(place, load, what), unasked: true });
  }
}
