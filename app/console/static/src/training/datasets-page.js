/** Data sets: what there is, with contact sheets, and uploads. */

import { get } from "../core/api.js";
import { el, fill, name } from "../core/dom.js";
import { bytes, moment, whole } from "../core/format.js";
import { picture } from "../components/picture.js";
import { empty, loading, problemNotice } from "../components/states.js";
import { trainingNav } from "../components/sub-nav.js";
import { uploadForm } from "./upload-form.js";

const PAGE = 24;
const MOST_CLASSES = 12;

export const datasetsPage = {
  title: () => "Data sets",
  render(main, { signal }) {
    const place = el("div", { class: "cards" });
    const trouble = el("div", {}, loading("Loading data sets"));
    const more = el("button", { type: "button", hidden: true }, "Show more");
    let after = null;

    async function look() {
      more.hidden = true;
      try {
        const answer = await get("/v1/datasets", { query: { after, limit: PAGE }, signal });
        fill(trouble);
        place.append(...answer.datasets.map((one) => card(one, signal)));
        after = answer.next_after;
        more.hidden = after === null;
        if (!place.children.length) {
          fill(
            trouble,
            empty(
              "No data set yet",
              "Upload a zip with a folder of images for each class. The digits that come with the service appear with the first job that uses them.",
            ),
          );
        }
      } catch (error) {
        if (error.name !== "AbortError") fill(trouble, problemNotice(error, { again: look, unasked: true }));
      }
    }
    const added = (dataset) => {
      fill(trouble);
      [...place.children].find((one) => one.dataset.name === dataset.name)?.remove();
      place.prepend(card(dataset, signal));
    };
    more.addEventListener("click", look);
    fill(
      main,
      trainingNav("#/training/datasets"),
      el("div", { class: "page-head" }, el("h1", {}, "Data sets")),
      el(
        "div",
        { class: "with-side" },
        el("div", { class: "stack" }, trouble, place, more),
        uploadForm({ signal, onDone: added }),
      ),
    );
    look();
  },
};

function card(dataset, signal) {
  const [channels, height, width] = dataset.image_shape;
  const shown = dataset.classes.slice(0, MOST_CLASSES);
  const rest = dataset.classes.length - shown.length;
  return el(
    "article",
    { class: "card dataset", "data-name": dataset.name },
    el("h2", { class: "clamp", title: dataset.name }, name(dataset.name)),
    el(
      "div",
      { class: "sheet" },
      picture(dataset.contact_sheet, `First images of each class of ${dataset.name}`, { signal }),
    ),
    el(
      "p",
      { class: "soft small" },
      `${whole(dataset.images)} images, ${width}×${height}, ${channels === 1 ? "grey" : `${channels} channels`} · ${
        bytes(dataset.size_bytes)
      } · ${dataset.format}, ${moment(dataset.created_at)}`,
    ),
    el(
      "ul",
      { class: "classes" },
      shown.map((one) =>
        el("li", { class: "tag" }, name(one.name), el("span", { class: "soft" }, ` ${whole(one.images)}`))
      ),
      rest > 0 && el("li", { class: "soft small" }, `and ${rest} more`),
    ),
    el(
      "div",
      { class: "actions" },
      el(
        "a",
        { class: "button compact", href: `#/training/new?dataset=${encodeURIComponent(dataset.name)}` },
        "Train on it",
      ),
    ),
  );
}
