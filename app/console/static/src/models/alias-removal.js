/** Removes an alias. */

import { confirmed } from "../components/dialog.js";
import { showProblem } from "../components/states.js";
import { put } from "../core/api.js";
import { fill } from "../core/dom.js";
import { aliasPath } from "./promotion.js";

/** Asks the user, then removes the alias. Resolves to true when it is removed. */
export async function removeAlias(model, alias, said, signal) {
  const title = `Remove the alias ${alias}?`;
  if (!(await confirmed(title, "The version stays.", "Remove it", { danger: true }))) return false;
  try {
    await put("DELETE", aliasPath(model, alias), undefined, { signal });
    fill(said);
    return true;
  } catch (error) {
    showProblem(said, error);
    return false;
  }
}
