/** A few images of a version, in a row for each class. The browser keeps them, so that they are drawn once. */

import { button } from "../components/button.js";
import { classRows, tiles } from "../components/class-rows.js";
import { drawnPicture } from "../components/picture.js";
import { loading, showProblem } from "../components/states.js";
import { put } from "../core/api.js";
import { removeRecords, storedRecords, storeRecord } from "../core/browser-store.js";
import { el, fill } from "../core/dom.js";
import { drawnClasses } from "./versions.js";

const [MOST_CLASSES, EACH, SEED] = [10, 4, 0];
const MOST_KEPT = 30;
const STORE = "grids";

/** Makes the part. unasked: draw without a press of the button. version: as the service describes it. */
export function sampleGrid(model, version, unasked, signal) {
  const place = el("div", {});
  const draw = async () => {
    fill(place, loading("Drawing a few images"));
    try {
      fill(place, rows((await kept(version.digest)) ?? (await drawn(model, version, signal))));
    } catch (error) {
      showProblem(place, error, { again: draw });
    }
  };
  if (unasked) draw();
  else {
    kept(version.digest).then((images) => {
      fill(place, images ? rows(images) : button("Draw a few images", draw, { class: "primary" }));
    });
  }
  return place;
}

async function drawn(model, version, signal) {
  const body = {
    model: `${model}@${version.version}`,
    class: drawnClasses(version).slice(0, MOST_CLASSES),
    n: EACH,
    seed: SEED,
    format: "json",
  };
  const { images } = await put("POST", "/v1/generate", body, { signal });
  await keep({ id: version.digest, at: Date.now(), images });
  return images;
}

async function kept(digest) {
  const records = await storedRecords(STORE).catch(() => []);
  return records.find((one) => one.id === digest)?.images ?? null;
}

async function keep(record) {
  try {
    const old = (await storedRecords(STORE)).sort((one, other) => other.at - one.at).slice(MOST_KEPT - 1);
    await removeRecords(STORE, old.map((one) => one.id));
    await storeRecord(STORE, record);
  } catch {
    return; // the images are drawn again next time
  }
}

function rows(images) {
  const picture = (image) =>
    drawnPicture({ src: `data:image/png;base64,${image.png}`, alt: `${image.class}, image ${image.index}` });
  const tile = (image) => el("div", { class: "tile" }, el("div", { class: "tile-open" }, picture(image)));
  return classRows(images, (its) => tiles(its.map(tile)));
}
