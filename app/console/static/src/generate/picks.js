/** Picked images: they become favourites, a zip file, or the ends of an interpolation. */

import { button } from "../components/button.js";
import { saveBlob } from "../components/download.js";
import { field, input } from "../components/fields.js";
import { el, fill } from "../core/dom.js";
import { toJson } from "../core/json.js";
import { zipOf } from "../core/zip.js";
import { fileName, requestFor, settingsOf } from "./facts.js";
import { begin, favour } from "./gallery.js";
import { Run } from "./run.js";
import { deterministic } from "./settings.js";

const [FEWEST, USUAL, MOST] = [2, 8, 64];
const MOST_THUMBNAILS = 8;

/** The picked images: {run, image}. */
const picked = [];

/** Sends the event `change` when another image is picked. */
export const pickChanges = new EventTarget();

const changed = () => pickChanges.dispatchEvent(new Event("change"));

/** Picks an image, or puts it back. */
export function togglePick(run, image) {
  const at = picked.findIndex((one) => one.image === image);
  if (at >= 0) picked.splice(at, 1);
  else picked.push({ run, image });
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
    const areFavourites = picked.every(({ image }) => image.favourite);
    const favourite = async () => {
      for (const { run, image } of [...picked]) await favour(run, image, !areFavourites);
      changed();
    };
    fill(
      bar,
      el("div", { class: "row" }, picked.slice(-MOST_THUMBNAILS).map(thumbnail), `${picked.length} picked`),
      el("p", { class: "small" }, why || "Interpolate draws both images and those between them."),
      picked.length === 2 && field("Images", count),
      button("Interpolate", start, { class: "primary", disabled: why !== null }),
      button("Download (zip)", saveZip),
      button(areFavourites ? "★ No favourites" : "☆ Favourites", favourite),
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
  if (picked.length !== 2) return "Pick two images to draw an interpolation.";
  const [one, other] = picked;
  if ([one, other].some(({ run }) => run.kind !== "generate")) return "Images of an interpolation are not its ends.";
  if (one.run.facts.version === other.run.facts.version) return null;
  return "Different model versions drew them. Pick two images of one version.";
}

/** Saves the picked images, and in images.json the request that draws each of them again. */
function saveZip() {
  const files = new Map();
  const requests = {};
  for (const { run, image } of picked) {
    const name = freeName(files, fileName(run, image));
    files.set(name, bytesOf(image.png));
    const { path, body } = requestFor(run, image);
    requests[name] = { path, body };
  }
  files.set("images.json", new TextEncoder().encode(toJson(requests)));
  saveBlob(zipOf([...files].map(([name, bytes]) => ({ name, bytes }))), "darkroom-images.zip");
}

const bytesOf = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));

/** Returns the name, with a number where a file has it already. */
function freeName(files, name) {
  let free = name;
  for (let number = 2; files.has(free); number += 1) free = name.replace(/\.png$/, `-${number}.png`);
  return free;
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
