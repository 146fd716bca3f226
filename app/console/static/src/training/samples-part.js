/** A job's grids of samples as a film strip, oldest first. */

import { get } from "../core/api.js";
import { el, fill } from "../core/dom.js";
import { whole } from "../core/format.js";
import { openDialog } from "../components/dialog.js";
import { picture } from "../components/picture.js";

/** {node, look()} */
export function samplesPart(address, job, signal) {
  const strip = el("ol", { class: "film", tabindex: "0", "aria-label": "Samples over time" });
  const waiting = el(
    "p",
    { class: "soft" },
    `The first grid is drawn after ${
      whole(Math.min(job.configuration.recipe.training.sample_every_images, job.total_images))
    } images.`,
  );
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

  /** The newest one is in sight, unless somebody goes through them. */
  function toEnd() {
    if (!strip.contains(document.activeElement)) strip.scrollLeft = strip.scrollWidth;
  }

  function frame(grid, at) {
    const drawn = picture(grid.picture, "", { signal });
    drawn.addEventListener("load", toEnd); // before, its width is not known
    return el(
      "li",
      {},
      el(
        "button",
        {
          type: "button",
          class: "frame",
          "aria-label": `Open samples after ${whole(grid.images_seen)} images`,
          on: { click: () => open(at) },
        },
        drawn,
        el("span", { class: "small" }, `${whole(grid.images_seen)} images`),
      ),
    );
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
      fill(
        place,
        el(
          "p",
          { role: "status" },
          `After ${whole(grid.images_seen)} images (${at + 1} of ${grids.length}); a row a class`,
        ),
        el(
          "div",
          { class: "samples-large" },
          picture(grid.picture, `Samples after ${whole(grid.images_seen)} images`, { signal }),
        ),
      );
    };
    show();
    openDialog("Samples", () => place, {
      onKey: (event) => {
        if (event.key === "ArrowRight") step(1);
        if (event.key === "ArrowLeft") step(-1);
      },
      foot: () => [
        el("button", { type: "button", on: { click: () => step(-1) } }, "← Earlier"),
        el("button", { type: "button", on: { click: () => step(1) } }, "Later →"),
      ],
    });
  }
  return { node, look };
}
