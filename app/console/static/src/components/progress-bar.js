/** A progress bar. */

import { el } from "../core/dom.js";

/** Makes a bar with `set(done, total)`. */
export function progressBar(label) {
  const inner = el("span");
  const range = { "aria-valuemin": "0", "aria-valuemax": "100" };
  const bar = el("div", { class: "bar", role: "progressbar", "aria-label": label, ...range }, inner);
  bar.set = (done, total) => {
    const percent = total > 0 ? Math.min(100, (100 * done) / total) : 0;
    inner.style.width = `${percent}%`;
    bar.setAttribute("aria-valuenow", String(Math.round(percent)));
  };
  return bar;
}
