/** The end of the training process's log. */

import { get } from "../core/api.js";
import { el } from "../core/dom.js";

const PAGE_LINES = 5000;
const MOST_SHOWN = 1000;

/** Returns {node, look()}. look: reads the lines that have come since. */
export function logPart(address, signal) {
  const lines = el("pre", { class: "log", tabindex: "0", role: "log", "aria-live": "off", "aria-label": "Log" });
  const follow = el("input", { type: "checkbox", checked: true });
  const label = el("label", { class: "row small" }, follow, "stay at the end");
  const head = el("div", { class: "card-head" }, el("h2", {}, "Log"), label);
  const node = el("section", { class: "card", "aria-label": "Log" }, head, lines);
  let after = 0;
  let looking = false;
  lines.textContent = "Nothing has been written yet.\n";

  /** Adds a page of lines. Resolves to true when more follow. */
  async function add() {
    const answer = await get(`${address}/logs`, { query: { after, limit: PAGE_LINES }, signal });
    if (answer.lines.length && after === 0) lines.textContent = "";
    after = answer.next_after;
    for (const one of answer.lines.slice(-MOST_SHOWN)) lines.append(`${one.line}\n`);
    while (lines.childNodes.length > MOST_SHOWN) lines.firstChild.remove();
    return answer.lines.length === PAGE_LINES;
  }

  async function look() {
    if (looking) return;
    looking = true;
    try {
      let more = true;
      while (more) more = await add();
      if (follow.checked) lines.scrollTop = lines.scrollHeight;
    } catch {
      // The job's stream of events tells the user when the service is away. The next look continues here.
    } finally {
      looking = false;
    }
  }
  return { node, look };
}
