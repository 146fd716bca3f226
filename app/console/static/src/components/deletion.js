/** Deletes a thing of the service, after the user was told what hangs on it. */

import { put, withQuery } from "../core/api.js";
import { el } from "../core/dom.js";
import { button } from "./button.js";
import { confirmed, openDialog } from "./dialog.js";

/** Asks the user, then deletes what the path names. Resolves to true when it is deleted. text: what is lost. */
export async function deleteAfterAsking(path, title, text, signal) {
  if (!(await confirmed(title, text, "Delete it", { danger: true }))) return false;
  try {
    await put("DELETE", path, undefined, { signal });
  } catch (error) {
    if (error.kind !== "in-use") throw error;
    if (!(await confirmedDependents(title, error.details.dependents))) return false;
    await put("DELETE", withQuery(path, { force: true }), undefined, { signal });
  }
  return true;
}

/** Shows what uses the thing. Resolves to true when the user wants to delete it nevertheless, where that is possible. */
async function confirmedDependents(title, dependents) {
  const blocked = dependents.some((one) => one.blocks);
  const listed = blocked ? dependents.filter((one) => one.blocks) : dependents;
  const content = () => [
    el("p", {}, blocked ? "It cannot be deleted while it is in use:" : "These use it:"),
    el("ul", { class: "protocols" }, listed.map((one) => el("li", {}, el("code", {}, one.resource), ` ${one.reason}`))),
  ];
  const answer = await openDialog(title, content, {
    narrow: true,
    foot: (close) =>
      [
        button("Leave it as it is", () => close(false)),
        !blocked && button("Delete it nevertheless", () => close(true), { class: "danger" }),
      ].filter(Boolean),
  });
  return answer === true;
}
