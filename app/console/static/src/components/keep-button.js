/** The button that marks a data set or a version, so that nobody can delete it. */

import { announce } from "../core/announce.js";
import { put } from "../core/api.js";
import { button } from "./button.js";
import { showProblem } from "./states.js";

/** Makes the button. address: of a thing with a member `keep`, whose value now is `keep`. said: shows a problem. */
export function keepButton(address, keep, { said, signal, ...properties }) {
  const node = button("", change, { title: "While it is marked, nobody can delete it.", ...properties });
  show();

  async function change() {
    try {
      ({ keep } = await put("PATCH", address, { keep: !keep }, { signal }));
      show();
      announce(keep ? "It is marked" : "It is no longer marked");
    } catch (error) {
      showProblem(said, error);
    }
  }

  function show() {
    node.textContent = keep ? "Do not keep" : "Keep";
  }
  return node;
}
