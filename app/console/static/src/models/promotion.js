/** Moves an alias to a version, after a question, and offers to move it back. */

import { button } from "../components/button.js";
import { confirmed } from "../components/dialog.js";
import { notice, showProblem } from "../components/states.js";
import { announce } from "../core/announce.js";
import { put } from "../core/api.js";
import { el, fill } from "../core/dom.js";

export const aliasPath = (model, alias) => `/v1/models/${encodeURIComponent(model)}/alias/${encodeURIComponent(alias)}`;

/** Asks the user, then makes a version production. before: the version that is now. Resolves to true when done. */
export async function promote(model, version, before, said, signal) {
  const text = before === null
    ? "It will answer the requests for this model."
    : `Version ${before} answers the requests for this model now, and finishes those that it has begun.`;
  if (!(await confirmed(`Make version ${version} of ${model} production?`, text, `Promote version ${version}`))) {
    return false;
  }
  return pointAlias(model, "production", version, before, said, signal);
}

/** Moves an alias. `said` shows how it went and offers to roll back. Resolves to true when it has moved. */
export async function pointAlias(model, alias, version, before, said, signal) {
  const move = (to, from) => pointAlias(model, alias, to, from, said, signal);
  fill(said, el("p", { class: "notice", role: "status" }, `Loading version ${version}…`));
  try {
    await put("PUT", aliasPath(model, alias), { version }, { signal });
  } catch (error) {
    showProblem(said, error, { again: () => move(version, before) });
    return false;
  }
  const state = `${alias} is version ${version} now`;
  const isProduction = alias === "production";
  const canGoBack = before !== null && before !== version;
  const actions = [
    isProduction && generateFromIt(model, version),
    canGoBack && button(`Roll back to version ${before}`, rollBack, { class: "compact" }),
  ];
  const done = notice("good", state, el("div", { class: "actions" }, actions));
  done.setAttribute("role", "status");
  fill(said, done);
  announce(state);

  async function rollBack() {
    if (!(await confirmed(`Roll ${alias} back to version ${before}?`, `It is version ${version} now.`, "Roll back"))) {
      return;
    }
    if (await move(before, version)) said.dispatchEvent(new Event("moved"));
  }
  return true;
}

/**
 * Makes the link to the page Generate, which draws images with a version at once. It names the version, because the
 * service takes up to two seconds to see that a job has moved production.
 */
export function generateFromIt(model, version) {
  const href = `#/generate?draw&model=${encodeURIComponent(`${model}@${version}`)}`;
  return el("a", { class: "button compact", href }, "Generate from it");
}
