/** Says that a version saw little training, so that nobody expects good images of it. */

import { notice } from "../components/states.js";
import { el } from "../core/dom.js";
import { whole } from "../core/format.js";

/** A version that saw less than this share of its recipe's images says so. */
const ENOUGH = 0.9;

/** Makes the notice, or null. version: as the service describes it. */
export function trainingNote({ images_seen: seen, recipe }) {
  const total = recipe?.training.total_images;
  if (!total || seen >= ENOUGH * total) return null;
  const text = `Its recipe asks for ${whole(total)} images; this version saw ${
    whole(seen)
  }. Later versions may be better.`;
  return notice("", "This version saw little training", el("p", {}, text));
}
