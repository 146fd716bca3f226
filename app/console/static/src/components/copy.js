/** Text that the user can copy. */

import { announce } from "../core/announce.js";
import { el } from "../core/dom.js";
import { button } from "./button.js";

const SAID_MILLISECONDS = 2000;

/** Makes a block of code with a button that copies it. */
export function codeBlock(text, label) {
  const code = el("pre", { tabindex: "0", "aria-label": label, role: "region" }, text);
  const copier = button("Copy", copy, { class: "compact" });
  async function copy() {
    try {
      await navigator.clipboard.writeText(text);
      copier.textContent = "Copied";
      announce("Copied");
    } catch {
      // Without permission, or over plain HTTP, the text is selected instead, so that the keyboard can copy it.
      globalThis.getSelection().selectAllChildren(code);
      copier.textContent = "Selected";
      announce("Selected. Copy it with the keyboard.");
    }
    setTimeout(() => {
      copier.textContent = "Copy";
    }, SAID_MILLISECONDS);
  }
  return el("div", { class: "code has-copy" }, code, copier);
}
