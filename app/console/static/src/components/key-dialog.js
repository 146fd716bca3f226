/** Asks for an API key. */

import { el } from "../core/dom.js";
import { currentKey, keepKey, keyDeclined } from "../core/key.js";
import { openDialog } from "./dialog.js";
import { field, input } from "./fields.js";

let asking = null;

/** Ask once, whoever asks meanwhile; resolves to whether there is another key now. refused: the one that there was. */
export function askForKey(refused) {
  asking ??= ask(refused).finally(() => {
    asking = null;
  });
  return asking;
}

async function ask(refused) {
  const control = input("key", { type: "password", autocomplete: "current-password", required: true, autofocus: true });
  const key = await openDialog(
    "A key is needed",
    (close) =>
      el(
        "form",
        { class: "stack", on: { submit: (event) => (event.preventDefault(), close(control.value.trim())) } },
        el(
          "p",
          {},
          refused
            ? "The service did not accept the key that this tab has."
            : "The service answers only who shows an API key.",
        ),
        field("API key", control, { hint: "Kept in this tab alone, until it is closed." }),
        el("div", { class: "actions" }, el("button", { type: "submit", class: "primary" }, "Use this key")),
      ),
    { narrow: true },
  );
  if (!key) {
    keyDeclined();
    return false;
  }
  keepKey(key);
  return true;
}

/** Forgets the key; shown while there is one. */
export function keyButton() {
  const button = el(
    "button",
    { type: "button", class: "quiet compact", on: { click: () => keepKey(null) } },
    "Forget key",
  );
  const show = () => {
    button.hidden = currentKey() === null;
  };
  document.addEventListener("keychange", show);
  show();
  return button;
}
