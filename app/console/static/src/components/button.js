/** Buttons. */

import { el } from "../core/dom.js";

/** Makes a button that calls `click`. content: text or an element. properties: further attributes. */
export function button(content, click, properties = {}) {
  return el("button", { type: "button", on: { click }, ...properties }, content);
}

/** Makes a small button without a border. */
export const quietButton = (text, click) => button(text, click, { class: "quiet compact" });
