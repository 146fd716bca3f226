/** The rest of a list, a page at a time. */

import { el, fill } from "../core/dom.js";
import { problemNotice } from "./states.js";

/** A button that adds the next page while there is one. add: loads and shows it, and resolves to whether more follow. */
export function moreButton(text, add) {
  const button = el("button", { type: "button", on: { click: next } }, text);
  const trouble = el("div", {});
  async function next() {
    button.disabled = true;
    fill(trouble);
    try {
      if (!(await add())) button.remove();
    } catch (error) {
      if (error.name !== "AbortError") fill(trouble, problemNotice(error, { again: next }));
    } finally {
      button.disabled = false;
    }
  }
  return el("div", { class: "stack more-part" }, trouble, el("div", { class: "actions" }, button));
}
