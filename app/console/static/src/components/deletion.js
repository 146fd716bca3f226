/** Deletes things of the service. The user first sees what hangs on them. */

import { put, withQuery } from "../core/api.js";
import { el, name } from "../core/dom.js";
import { button } from "./button.js";
import { openDialog } from "./dialog.js";

const MOST_LISTED = 10;

/** Asks the user, then deletes the thing at an address. Resolves to true when it is deleted. lost: what is lost. */
export async function deleted(address, what, signal, lost = "This cannot be undone.") {
  const tried = await put("DELETE", withQuery(address, { dry_run: true }), undefined, { signal });
  const leave = (close) => button(tried.blocked ? "Close" : "Leave it as it is", () => close(false));
  const go = (close) => button("Delete it", () => close(true), { class: "danger" });
  const title = tried.blocked ? `${what} cannot be deleted` : `Delete ${what}?`;
  const foot = (close) => [leave(close), !tried.blocked && go(close)].filter(Boolean);
  if (!(await openDialog(title, () => reasonsOf(tried, lost), { narrow: true, foot }))) return false;
  await put("DELETE", withQuery(address, { force: tried.dependents.length > 0 }), undefined, { signal });
  return true;
}

function reasonsOf({ blocked, dependents }, lost) {
  if (!dependents.length) return el("p", {}, lost);
  const shown = dependents.filter((one) => one.blocks || !blocked);
  const lines = shown.slice(0, MOST_LISTED).map((one) =>
    el("li", {}, name(decodeURIComponent(one.resource.replace("/v1/", ""))), ` ${one.reason}`)
  );
  if (shown.length > MOST_LISTED) lines.push(el("li", {}, `and ${shown.length - MOST_LISTED} more`));
  const text = blocked ? "These need it. Cancel, move or unmark them first." : `${lost} These use it:`;
  return el("div", { class: "stack" }, el("p", {}, text), el("ul", {}, lines));
}
