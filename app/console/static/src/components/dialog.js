/** Dialogs: the browser's own, which keeps the focus inside, closes on Escape and gives the focus back. */

import { el, freshId } from "../core/dom.js";
import { button } from "./button.js";

/** Opens a dialog. Resolves to the result that it was closed with. content, foot: functions of `close(result)`. */
export function openDialog(title, content, { narrow = false, foot = null, onKey = null } = {}) {
  return new Promise((resolve) => {
    const heading = freshId("dialog");
    let result = null;
    const close = (value = null) => {
      result = value;
      dialog.close();
    };
    const cross = button("✕", () => close(), { class: "quiet compact", "aria-label": "Close" });
    const dialog = el(
      "dialog",
      { class: narrow ? "narrow" : null, "aria-labelledby": heading },
      el("div", { class: "dialog-head" }, el("h2", { id: heading }, title), cross),
      el("div", { class: "dialog-body" }, content(close)),
      foot && el("div", { class: "dialog-foot" }, foot(close)),
    );
    const before = document.activeElement;
    dialog.addEventListener("close", () => {
      dialog.remove();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
      resolve(result);
    });
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) close(); // the backdrop
    });
    if (onKey) dialog.addEventListener("keydown", onKey);
    globalThis.addEventListener("hashchange", () => dialog.open && close(), { once: true });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Asks the user. Resolves to true when the user presses the button `action`. */
export async function confirmed(title, text, action, { danger = false } = {}) {
  const answer = await openDialog(title, () => el("p", {}, text), {
    narrow: true,
    foot: (close) => [
      button("Leave it as it is", () => close(false)),
      button(action, () => close(true), { class: danger ? "danger" : "primary" }),
    ],
  });
  return answer === true;
}
