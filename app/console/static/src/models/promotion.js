/** Pointing aliases at versions: asked for once more before, and to be rolled back after. */

import { announce } from "../core/announce.js";
import { put } from "../core/api.js";
import { el, fill } from "../core/dom.js";
import { confirmed } from "../components/dialog.js";
import { problemNotice } from "../components/states.js";

/** Ask, then make a version production. before: the version that is. Resolves to whether it was done. */
export async function promote(model, version, before, said, signal) {
  const text = before === null
    ? "Requests for this model will be answered by it."
    : `Requests for this model are answered by version ${before} now; those under way finish on it.`;
  if (!(await confirmed(`Make version ${version} of ${model} production?`, text, `Promote version ${version}`))) {
    return false;
  }
  return pointAlias(model, "production", version, before, said, signal);
}

/** Point an alias; `said` tells how it went, and offers to roll back. */
export async function pointAlias(model, alias, version, before, said, signal) {
  const address = `/v1/models/${encodeURIComponent(model)}/alias/${encodeURIComponent(alias)}`;
  const working = el("p", { class: "notice", role: "status" }, `Loading version ${version}…`);
  fill(said, working);
  try {
    await put("PUT", address, { version }, { signal });
  } catch (error) {
    if (error.name !== "AbortError") {
      fill(
        said,
        problemNotice(error, { again: () => pointAlias(model, alias, version, before, said, signal) }),
      );
    }
    return false;
  }
  const back = before !== null && before !== version;
  fill(
    said,
    el(
      "div",
      { class: "notice good", role: "status" },
      el("p", { class: "notice-title" }, `${alias} is version ${version} now`),
      el(
        "div",
        { class: "actions" },
        alias === "production" &&
          el(
            "a",
            { class: "button compact", href: `#/generate?model=${encodeURIComponent(model)}` },
            "Generate from it",
          ),
        back &&
          el("button", { type: "button", class: "compact", on: { click: rollBack } }, `Roll back to version ${before}`),
      ),
    ),
  );
  announce(`${alias} is version ${version} now`);
  async function rollBack() {
    if (!(await confirmed(`Roll ${alias} back to version ${before}?`, `It is version ${version} now.`, "Roll back"))) {
      return;
    }
    if (await pointAlias(model, alias, before, version, said, signal)) {
      said.dispatchEvent(new Event("moved", { bubbles: true }));
    }
  }
  return true;
}
