/** Images in a row with a heading for each class. */

import { el, name } from "../core/dom.js";

/** Makes the rows. images: {class, class_index} each. content: makes a row of a class's images. */
export function classRows(images, content, { heading = true } = {}) {
  const row = ([index, its]) =>
    el("div", { class: "class-row" }, heading && el("h3", {}, name(its[0].class)), content(its, index));
  return el("div", { class: "class-rows" }, [...Map.groupBy(images, (image) => image.class_index)].map(row));
}

/** Makes a row of tiles. */
export const tiles = (nodes) => el("div", { class: "tiles" }, nodes);
