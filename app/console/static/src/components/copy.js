/** Text to take along. */

import { announce } from "../core/announce.js";
import { el } from "../core/dom.js";

/** A block of code with a button that copies it. */
export function codeBlock(text, label) {
  const code = el("pre", { tabindex: "0", "aria-label": label, role: "region" }, text);
  const button = el("button", { type: "button", class: "compact", on: { click: copy } }, "Copy");
  async function copy() {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
      announce("Copied");
    } catch {
      // without permission, or over plain HTTP: select it, so that the keyboard can copy it
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
      announce("Selected; copy it with the keyboard");
    }
    setTimeout(() => {
      button.textContent = "Copy";
    }, 2000);
  }
  return el("div", { class: "code has-copy" }, code, button);
}
