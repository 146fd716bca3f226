/** Forgetting an alias. */

import { put } from "../core/api.js";
import { fill } from "../core/dom.js";
import { confirmed } from "../components/dialog.js";
import { problemNotice } from "../components/states.js";

/** Ask, then remove; resolves to whether it was done. */
export async function removeAlias(model, alias, said, signal) {
  if (
    !(await confirmed(`Remove the alias ${alias}?`, "The version that it means stays.", "Remove it", { danger: true }))
  ) return false;
  try {
    await put("DELETE", `/v1/models/${encodeURIComponent(model)}/alias/${encodeURIComponent(alias)}`, undefined, {
      signal,
    });
    fill(said);
    return true;
  } catch (error) {
    if (error.name !== "AbortError") fill(said, problemNotice(error));
    return false;
  }
}
