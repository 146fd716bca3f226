/** Tables. */

import { el } from "../core/dom.js";

/** Makes a table that scrolls sideways on a narrow screen. label: its name. heads: elements <th>, or texts. */
export function scrolledTable(label, heads, rows, properties = {}) {
  const region = { class: "table-wrap", tabindex: "0", role: "region", "aria-label": label };
  return el("div", region, table(heads, rows, properties));
}

/**
 * Like `scrolledTable`, but on a telephone each line is a block of named values, so that its buttons are in reach.
 * kind: a class of the table.
 */
export function stackedTable(label, heads, rows, kind = "") {
  for (const row of rows) [...row.cells].forEach((cell, at) => cell.setAttribute("data-head", heads[at]));
  return scrolledTable(label, heads, rows, { class: `stacked ${kind}` });
}

/** Makes a table. heads: elements <th>, or texts, of which an empty one stands over buttons. */
export function table(heads, rows, properties = {}) {
  return el("table", properties, el("thead", {}, el("tr", {}, heads.map(head))), el("tbody", {}, rows));
}

function head(one) {
  if (typeof one !== "string") return one;
  return el("th", { scope: "col" }, one || el("span", { class: "visually-hidden" }, "Actions"));
}
