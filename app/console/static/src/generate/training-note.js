/** Says that a version saw little training, so that nobody expects good images of it. */

import { notice } from "../components/states.js";
import { el } from "../core/dom.js";

/** Makes the notice, or null. version: as the service describes it, with the reason in `little_training`. */
export function trainingNote({ little_training: reason }) {
  return reason ? notice("", "This version saw little training", el("p", {}, `${reason}.`)) : null;
}
