/** Dialogs: the browser's own, which holds the focus, ends with Escape and gives the focus back. */

import { el, freshId } from "../core/dom.js";

/** Open a dialog; resolves to what it was closed with. content: gets `close(result)`. */
export function openDialog(title, content, { narrow = false, foot = null, onKey = null } = {}) {
  return new Promise((resolve) => {
    const heading = freshId("dialog");
    let result = null;
    const close = (value) => {
      result = value ?? null;
      dialog.close();
    };
    const dialog = el(
      "dialog",
      { class: narrow ? "narrow" : null, "aria-labelledby": heading },
      el(
        "div",
        { class: "dialog-head" },
        el("h2", { id: heading }, title),
        el(
          "button",
          { type: "button", class: "quiet compact", "aria-label": "Close", on: { click: () => close() } },
          "✕",
        ),
      ),
      el("div", { class: "dialog-body" }, content(close)),
      foot && el("div", { class: "dialog-foot" }, foot(close)),
    );
    const before = document.activeElement;
    dialog.addEventListener("close", () => {
      dialog.remove();
      if (before?.isConnected) before.focus();
      resolve(result);
    });
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) close(); // the backdrop
    });
    if (onKey) dialog.addEventListener("keydown", onKey);
    window.addEventListener("hashchange", () => dialog.open && close(), { once: true });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Ask; resolves to whether it was confirmed. */
export async function confirmed(title, text, action, { danger = false } = {}) {
  const answer = await openDialog(title, () => el("p", {}, text), {
    narrow: true,
    foot: (close) => [
      el("button", { type: "button", on: { click: () => close(false) } }, "Leave it as it is"),
      el("button", { type: "button", class: danger ? "danger" : "primary", on: { click: () => close(true) } }, action),
    ],
  });
  return answer === true;
}
