/** A progress bar. */

import { el } from "../core/dom.js";
import { duration, until, whole } from "../core/format.js";

/** Makes a bar with `set(done, total)` and `show(event)`. */
export function progressBar(label) {
  const inner = el("span");
  const range = { "aria-valuemin": "0", "aria-valuemax": "100" };
  const bar = el("div", { class: "bar", role: "progressbar", "aria-label": label, ...range }, inner);
  bar.set = (done, total) => {
    const percent = total > 0 ? Math.min(100, (100 * done) / total) : 0;
    inner.style.width = `${percent}%`;
    bar.setAttribute("aria-valuenow", String(Math.round(percent)));
  };
  /** Shows what an event `progress` says, and returns it in words. */
  bar.show = ({ what, done, total, eta_seconds: left }) => {
    bar.set(done, total);
    const counts = total === null ? "" : `: ${whole(done)} of ${whole(total)}`;
    const end = left === null ? "" : `, ${duration(left)} left, until ${until(left)}`;
    return `${what[0].toUpperCase()}${what.slice(1)}${counts}${end}`;
  };
  return bar;
}
