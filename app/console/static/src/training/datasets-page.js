/** Data sets with their contact sheets, and the form that adds one. */

import { button } from "../components/button.js";
import { deleted } from "../components/deletion.js";
import { picture } from "../components/picture.js";
import { empty, loading, showProblem } from "../components/states.js";
import { trainingNav } from "../components/sub-nav.js";
import { get } from "../core/api.js";
import { el, fill, name } from "../core/dom.js";
import { bytes, moment, several, whole } from "../core/format.js";
import { datasetLink } from "./dataset-page.js";
import { uploadForm } from "./upload-form.js";

const PAGE = 24;
const MOST_CLASSES = 12;

export const datasetsPage = {
  title: () => "Data sets",
  render(main, { signal }) {
    const place = el("div", { class: "cards" });
    const trouble = el("div", {}, loading("Loading data sets"));
    const more = button("Show more", look, { hidden: true });
    let after = null;

    async function look() {
      more.hidden = true;
      try {
        const answer = await get("/v1/datasets", { query: { after, limit: PAGE }, signal });
        place.append(...answer.datasets.map((one) => card(one, trouble, signal)));
        after = answer.next_after;
        more.hidden = after === null;
        fill(trouble, place.children.length ? null : noDatasets());
      } catch (error) {
        showProblem(trouble, error, { again: look, unasked: true });
      }
    }
    const added = (dataset, training) => {
      if (training) {
        location.hash = trainPage(dataset);
        return;
      }
      fill(trouble);
      [...place.children].find((one) => one.dataset.name === dataset.name)?.remove();
      place.prepend(card(dataset, trouble, signal));
    };
    const list = el("div", { class: "stack" }, trouble, place, more);
    fill(
      main,
      trainingNav("#/training/datasets"),
      el("div", { class: "page-head" }, el("h1", {}, "Data sets")),
      el("div", { class: "with-side" }, list, uploadForm({ signal, onDone: added })),
    );
    look();
  },
};

const trainPage = (dataset) => `#/training/new?dataset=${encodeURIComponent(dataset.name)}`;

function noDatasets() {
  return empty(
    "No data set yet",
    "Drop a folder with one folder of pictures for each class. " +
      "The digits that come with the service appear here after the first job that uses them.",
  );
}

/** Makes the button that deletes a data set, and its card with it. */
function remover(dataset, card, trouble, signal) {
  return button("Delete", async () => {
    try {
      const address = `/v1/datasets/${encodeURIComponent(dataset.name)}`;
      if (await deleted(address, `data set ${dataset.name}`, signal)) card.remove();
    } catch (error) {
      showProblem(trouble, error);
    }
  }, { class: "quiet compact", "aria-label": `Delete ${dataset.name}` });
}

function card(dataset, trouble, signal) {
  const [channels, height, width] = dataset.image_shape;
  const facts = [
    `${several(dataset.images, "image")}, ${width}×${height}, ${channels === 1 ? "grey" : `${channels} channels`}`,
    bytes(dataset.size_bytes),
    `${dataset.format}, ${moment(dataset.created_at)}`,
  ];
  const rest = dataset.classes.length - MOST_CLASSES;
  const tags = dataset.classes.slice(0, MOST_CLASSES).map((one) =>
    el("li", { class: "tag" }, name(one.name), el("span", { class: "soft" }, ` ${whole(one.images)}`))
  );
  const sheet = picture(dataset.contact_sheet, `First images of each class of ${dataset.name}`, signal);
  const train = { class: "button compact", href: trainPage(dataset) };
  const actions = el("div", { class: "actions" }, el("a", train, "Train on it"));
  const node = el(
    "article",
    { class: "card dataset", "data-name": dataset.name },
    el("h2", { class: "clamp", title: dataset.name }, el("a", { href: datasetLink(dataset.name) }, name(dataset.name))),
    el("div", { class: "sheet" }, sheet),
    el("p", { class: "soft small" }, facts.join(" · ")),
    el("ul", { class: "classes" }, tags, rest > 0 && el("li", { class: "soft small" }, `and ${rest} more`)),
    actions,
  );
  actions.append(remover(dataset, node, trouble, signal));
  return node;
}
