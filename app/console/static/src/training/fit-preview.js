/** Shows what crop, padding and stretching make of a few pictures, before anything is sent. */

import { el, fill } from "../core/dom.js";

const SAMPLED = 24;
const SHOWN = 4;
const SIDES = [4, 1024];
const PROPOSED_SIDES = [64, 48, 32]; // as the service proposes them
const FITS = [["crop", "Crop", "keeps the centre"], ["pad", "Pad", "keeps all of it"], [
  "stretch",
  "Stretch",
  "fills the square",
]];

/**
 * Makes the preview, hidden at first. It has `show(pictures)`, and `side`, the proposed one or null.
 * `draw(side)` draws with that side where the service takes it, else with the proposed one.
 */
export function fitPreview() {
  const ground = el("input", { type: "color", name: "ground", "data-undrafted": "" });
  ground.defaultValue = "#ffffff"; // also after the form's reset
  const words = el("p", { class: "small soft" });
  const lines = FITS.map(([value, title, text], place) => {
    const pictures = el("span", { class: "fit-pictures" });
    const choice = el("input", { type: "radio", name: "fit", value });
    choice.defaultChecked = place === 0;
    return {
      value,
      pictures,
      node: el(
        "label",
        { class: "fit" },
        el("span", {}, choice, title, el("span", { class: "soft small" }, ` ${text}`)),
        pictures,
      ),
    };
  });
  const choices = el(
    "fieldset",
    { class: "field" },
    el("legend", {}, "Shape of the pictures"),
    lines.map((one) => one.node),
  );
  const label = el("label", { class: "ground" }, ground, "Colour behind transparent parts and beside padded ones");
  const node = el("div", { class: "stack wide", hidden: true }, words, choices, label);
  let bitmaps = [];
  let drawnSide = null;
  ground.addEventListener("input", () => node.draw(drawnSide));

  node.side = null;
  node.show = async (pictures) => {
    const found = await opened(spread(pictures, SAMPLED));
    bitmaps = spread(found, SHOWN);
    node.hidden = !found.length;
    node.side = found.length ? proposed(found) : null;
    words.textContent = found.length ? said(found, node.side) : "";
    node.draw(null);
  };
  node.draw = (wanted) => {
    drawnSide = wanted >= SIDES[0] && wanted <= SIDES[1] ? wanted : node.side ?? bitmaps[0]?.width;
    for (const { value, pictures } of lines) {
      fill(pictures, bitmaps.map((bitmap) => drawn(bitmap, value, drawnSide, ground.value)));
    }
  };
  return node;
}

/** Returns the side that the service would choose; null for squares of one size, which stay as they are. */
function proposed(bitmaps) {
  const [{ width }] = bitmaps;
  if (bitmaps.every((one) => one.width === width && one.height === width)) return null;
  const sides = bitmaps.map((one) => Math.min(one.width, one.height)).sort((one, other) => one - other);
  const middle = sides[Math.floor((sides.length - 1) / 2)];
  return PROPOSED_SIDES.find((one) => one <= middle) ?? Math.max(4, middle);
}

function said(bitmaps, side) {
  const [{ width, height }] = bitmaps;
  if (side !== null) {
    const same = bitmaps.every((one) => one.width === width && one.height === height);
    return `The pictures ${same ? `are ${width}×${height}` : "differ in size"}. They become ${side}×${side}.`;
  }
  const large = width > PROPOSED_SIDES[0] ? ` A side of ${PROPOSED_SIDES[0]} trains much faster: see More.` : "";
  return `The pictures are ${width}×${height} and stay so.${large}`;
}

function drawn(bitmap, fit, side, ground) {
  const canvas = el("canvas", { width: side, height: side, "aria-hidden": "true" });
  const brush = canvas.getContext("2d");
  brush.fillStyle = ground;
  brush.fillRect(0, 0, side, side);
  brush.imageSmoothingQuality = "high";
  const scales = [side / bitmap.width, side / bitmap.height];
  const scale = fit === "crop" ? Math.max(...scales) : Math.min(...scales);
  const [width, height] = fit === "stretch" ? [side, side] : [bitmap.width * scale, bitmap.height * scale];
  brush.drawImage(bitmap, (side - width) / 2, (side - height) / 2, width, height);
  return canvas;
}

/** Returns the pictures that the browser can read. */
async function opened(pictures) {
  const found = await Promise.allSettled(pictures.map(async (one) => createImageBitmap(await one.blob())));
  return found.filter((one) => one.status === "fulfilled").map((one) => one.value);
}

function spread(all, count) {
  if (all.length <= count) return all;
  return Array.from({ length: count }, (_, number) => all[Math.floor((number * all.length) / count)]);
}
