/** A job's sample grids as a film strip, oldest first. */

import { button } from "../components/button.js";
import { openDialog } from "../components/dialog.js";
import { picture } from "../components/picture.js";
import { get } from "../core/api.js";
import { el, fill } from "../core/dom.js";
import { whole } from "../core/format.js";
import { dueAfter } from "./due.js";

/** Returns {node, look()}. look: adds the grids that have come since. */
export function samplesPart(address, job, signal) {
  const strip = el("ol", { class: "film", tabindex: "0", "aria-label": "Samples over time" });
  const first = dueAfter(job, job.configuration.recipe.training.sample_every_images);
  const waiting = el("p", { class: "soft" }, `The first grid is drawn after ${first}.`);
  const node = el("section", { class: "card", "aria-label": "Samples" }, el("h2", {}, "Samples"), waiting, strip);
  let grids = [];

  async function look() {
    const answer = await get(`${address}/samples`, { signal }).catch(() => null);
    if (!answer) return;
    const known = new Set(grids.map((one) => one.images_seen));
    waiting.hidden = answer.samples.length > 0;
    strip.hidden = !waiting.hidden;
    grids = answer.samples;
    const added = grids.map((grid, at) => ({ grid, at })).filter(({ grid }) => !known.has(grid.images_seen));
    for (const { grid, at } of added) strip.append(frame(grid, at));
    if (added.length) toEnd();
  }

  /** Scrolls to the newest grid, unless the user is going through them. */
  function toEnd() {
    if (!strip.contains(document.activeElement)) strip.scrollLeft = strip.scrollWidth;
  }

  function frame(grid, at) {
    const when = `${whole(grid.images_seen)} images`;
    const drawn = picture(grid.picture, "", signal);
    drawn.addEventListener("load", toEnd); // its width is not known earlier
    const content = [drawn, el("span", { class: "small" }, when)];
    const properties = { class: "frame", "aria-label": `Open samples after ${when}` };
    return el("li", {}, button(content, () => open(at), properties));
  }

  function open(first) {
    let at = first;
    const place = el("div", { class: "stack" });
    const step = (by) => {
      at = Math.max(0, Math.min(grids.length - 1, at + by));
      show();
    };
    const show = () => {
      const grid = grids[at];
      const when = `${whole(grid.images_seen)} images`;
      const large = picture(grid.picture, `Samples after ${when}`, signal);
      fill(
        place,
        el("p", { role: "status" }, `After ${when} (${at + 1} of ${grids.length}). Each class is a row.`),
        el("div", { class: "samples-large" }, large),
      );
    };
    show();
    openDialog("Samples", () => place, {
      onKey: (event) => {
        if (event.key === "ArrowRight") step(1);
        if (event.key === "ArrowLeft") step(-1);
      },
      foot: () => [button("← Earlier", () => step(-1)), button("Later →", () => step(1))],
    });
  }
  return { node, look };
}
