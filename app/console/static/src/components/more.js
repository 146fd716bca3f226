/** A list that grows by a page at a time. */

import { el, fill } from "../core/dom.js";
import { button } from "./button.js";
import { showProblem } from "./states.js";

/** Makes a button that adds the next page. add: loads and shows the page, and resolves to true when more follow. */
export function moreButton(text, add) {
  const more = button(text, next);
  const trouble = el("div", {});
  async function next() {
    more.disabled = true;
    fill(trouble);
    try {
      if (!(await add())) more.remove();
    } catch (error) {
      showProblem(trouble, error, { again: next });
    } finally {
      more.disabled = false;
    }
  }
  return el("div", { class: "stack more-part" }, trouble, el("div", { class: "actions" }, more));
}
