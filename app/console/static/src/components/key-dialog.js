/** Asks the user for an API key. */

import { el } from "../core/dom.js";
import { currentKey, keepKey, keyDeclined } from "../core/key.js";
import { quietButton } from "./button.js";
import { openDialog } from "./dialog.js";
import { field, input } from "./fields.js";

let asking = null;

/** Opens one dialog for all who ask. Resolves to true when there is a new key. refused: a key was sent and refused. */
export function askForKey(refused) {
  asking ??= ask(refused).finally(() => {
    asking = null;
  });
  return asking;
}

async function ask(refused) {
  const control = input("key", { type: "password", autocomplete: "current-password", required: true, autofocus: true });
  const why = refused
    ? "The service did not accept the key of this tab."
    : "The service answers only requests with an API key.";
  const form = (close) => {
    const submit = (event) => {
      event.preventDefault();
      close(control.value.trim());
    };
    return el(
      "form",
      { class: "stack", on: { submit } },
      el("p", {}, why),
      field("API key", control, { hint: "This tab keeps the key until you close it." }),
      el("div", { class: "actions" }, el("button", { type: "submit", class: "primary" }, "Use this key")),
    );
  };
  const key = await openDialog("A key is needed", form, { narrow: true });
  if (!key) {
    keyDeclined();
    return false;
  }
  keepKey(key);
  return true;
}

/** Makes the button that forgets the key. It is shown while there is a key. */
export function keyButton() {
  const node = quietButton("Forget key", () => keepKey(null));
  const show = () => {
    node.hidden = currentKey() === null;
  };
  document.addEventListener("keychange", show);
  show();
  return node;
}
