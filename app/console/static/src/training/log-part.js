/** The end of what the training process wrote. */

import { get } from "../core/api.js";
import { el } from "../core/dom.js";

const PAGE_LINES = 5000;
const MOST_SHOWN = 1000;

/** {node, look()} */
export function logPart(address, signal) {
  const lines = el("pre", { class: "log", tabindex: "0", role: "log", "aria-live": "off", "aria-label": "Log" });
  const follow = el("input", { type: "checkbox", checked: true });
  const node = el(
    "section",
    { class: "card", "aria-label": "Log" },
    el(
      "div",
      { class: "card-head" },
      el("h2", {}, "Log"),
      el("label", { class: "row small" }, follow, "stay at the end"),
    ),
    lines,
  );
  let after = 0;
  let looking = false;
  lines.textContent = "Nothing was written yet.\n";

  async function look() {
    if (looking) return;
    looking = true;
    try {
      for (;;) {
        const answer = await get(`${address}/logs`, { query: { after, limit: PAGE_LINES }, signal });
        if (answer.lines.length && after === 0) lines.textContent = "";
        after = answer.next_after;
        for (const one of answer.lines.slice(-MOST_SHOWN)) lines.append(`${one.line}\n`);
        while (lines.childNodes.length > MOST_SHOWN) lines.firstChild.remove();
        if (answer.lines.length < PAGE_LINES) break;
      }
      if (follow.checked) lines.scrollTop = lines.scrollHeight;
    } catch {
      // the stream says when the service is away, and the next look goes on from here
    } finally {
      looking = false;
    }
  }
  return { node, look };
}
