/** Two picked images, and the way between them. */

import { el, fill, name } from "../core/dom.js";
import { field, input } from "../components/fields.js";
import { settingsOf } from "./facts.js";
import { deterministic } from "./settings.js";
import { begin, Run } from "./run.js";

/** The picked: at most two of {run, image}. */
export const picked = [];
export const pickChanges = new EventTarget();

/** Pick it, or no longer; a third one takes the place of the first. */
export function togglePick(run, image) {
  const at = picked.findIndex((one) => one.image === image);
  if (at >= 0) picked.splice(at, 1);
  else {
    picked.push({ run, image });
    if (picked.length > 2) picked.shift();
  }
  pickChanges.dispatchEvent(new Event("change"));
}

export const isPicked = (image) => picked.some((one) => one.image === image);

/** What is shown while anything is picked. */
export function pickBar(signal) {
  const bar = el("section", { class: "pick-bar", "aria-label": "Picked images" });
  const count = input("count", { type: "number", min: 2, max: 64, value: 8 });
  const show = () => {
    bar.hidden = picked.length === 0;
    const why = whyNot();
    fill(
      bar,
      el(
        "div",
        { class: "row" },
        picked.map(({ image }) =>
          el("img", {
            class: "picture is-small",
            src: `data:image/png;base64,${image.png}`,
            alt: image.class,
            width: 44,
            height: 44,
          })
        ),
      ),
      el(
        "p",
        { class: "small" },
        picked.length === 1
          ? "Pick another one to draw the way between them."
          : why || "Both ends and what lies between them.",
      ),
      field("Images", count),
      el("button", {
        type: "button",
        class: "primary",
        disabled: picked.length < 2 || why !== null,
        on: { click: interpolate },
      }, "Interpolate"),
      el("button", { type: "button", class: "quiet", on: { click: clear } }, "Pick none"),
    );
  };
  const clear = () => {
    picked.splice(0);
    pickChanges.dispatchEvent(new Event("change"));
  };
  const interpolate = () => {
    const [one, other] = picked;
    const total = Math.max(2, Math.min(64, Number(count.value) || 8));
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
    begin(new Run("interpolate", body, [one.image.class, other.image.class], expected));
  };
  pickChanges.addEventListener("change", show, { signal });
  show();
  return bar;
}

function whyNot() {
  if (picked.length < 2) return null;
  const [one, other] = picked;
  return one.run.facts.version === other.run.facts.version
    ? null
    : "They were drawn by different model versions, between which there is no way.";
}

/** The words of an interpolation's title. */
export const wayTitle = (run) => [name(run.title[0]), " → ", name(run.title[1])];
