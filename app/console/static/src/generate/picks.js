/** Two picked images, and the interpolation between them. */

import { button } from "../components/button.js";
import { field, input } from "../components/fields.js";
import { el, fill } from "../core/dom.js";
import { settingsOf } from "./facts.js";
import { begin, Run } from "./run.js";
import { deterministic } from "./settings.js";

const [FEWEST, USUAL, MOST] = [2, 8, 64];

/** The picked images, at most two: {run, image}. */
const picked = [];

/** Sends the event `change` when another image is picked. */
export const pickChanges = new EventTarget();

const changed = () => pickChanges.dispatchEvent(new Event("change"));

/** Picks an image, or puts it back. A third image takes the place of the first. */
export function togglePick(run, image) {
  const at = picked.findIndex((one) => one.image === image);
  if (at >= 0) picked.splice(at, 1);
  else {
    picked.push({ run, image });
    if (picked.length > 2) picked.shift();
  }
  changed();
}

export const isPicked = (image) => picked.some((one) => one.image === image);

/** Makes the bar that is shown while an image is picked. */
export function pickBar(signal) {
  const bar = el("section", { class: "pick-bar", "aria-label": "Picked images" });
  const count = input("count", { type: "number", min: FEWEST, max: MOST, value: USUAL });
  const start = () => interpolate(Math.max(FEWEST, Math.min(MOST, Number(count.value) || USUAL)));
  const clear = () => {
    picked.splice(0);
    changed();
  };
  const show = () => {
    bar.hidden = picked.length === 0;
    const why = whyNot();
    fill(
      bar,
      el("div", { class: "row" }, picked.map(thumbnail)),
      el("p", { class: "small" }, why || "Draws both images and those between them."),
      field("Images", count),
      button("Interpolate", start, { class: "primary", disabled: why !== null }),
      button("Pick none", clear, { class: "quiet" }),
    );
  };
  pickChanges.addEventListener("change", show, { signal });
  show();
  return bar;
}

function thumbnail({ image }) {
  const src = `data:image/png;base64,${image.png}`;
  return el("img", { class: "picture is-small", src, alt: image.class, width: 44, height: 44 });
}

function whyNot() {
  if (picked.length < 2) return "Pick another image to draw an interpolation.";
  const [one, other] = picked;
  if (one.run.facts.version === other.run.facts.version) return null;
  return "Different model versions drew them. Pick two images of one version.";
}

function interpolate(total) {
  const [one, other] = picked;
  const body = {
    class: [one.image.class, other.image.class],
    seeds: [one.run.facts.seed, other.run.facts.seed],
    indices: [one.image.index, other.image.index],
    count: total,
    ...settingsOf(deterministic(one.run.facts)),
  };
  const expected = Array.from({ length: total }, (_, at) => {
    const nearer = at < total / 2 ? one.image : other.image;
    return { class: nearer.class, class_index: nearer.class_index };
  });
  begin(new Run("interpolate", body, body.class, expected));
}
