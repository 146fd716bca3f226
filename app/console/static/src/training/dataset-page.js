/** One data set: its pictures by class, a check of them, its versions, and its name. */

import { button } from "../components/button.js";
import { field, input, options, select } from "../components/fields.js";
import { openDialog } from "../components/dialog.js";
import { keepButton } from "../components/keep-button.js";
import { picture } from "../components/picture.js";
import { progressBar } from "../components/progress-bar.js";
import { loading, shown, showProblem } from "../components/states.js";
import { trainingNav } from "../components/sub-nav.js";
import { announce } from "../core/announce.js";
import { get, pagesOf, put, withQuery } from "../core/api.js";
import { el, fill, name } from "../core/dom.js";
import { awaitResult } from "../core/event-stream.js";
import { bytes, moment, several, shortDigest, whole } from "../core/format.js";
import { leftOut } from "./upload-form.js";

const PAGE = 100;
const [COLUMNS, COLUMNS_ON_A_PHONE] = [10, 6];

export const datasetLink = (of) => `#/training/datasets/${encodeURIComponent(of)}`;

export const datasetPage = {
  title: ({ name }) => name,
  render(main, { params, signal }) {
    const place = el("div", { class: "stack" });
    const head = el("div", { class: "page-head" }, el("h1", { class: "clamp", title: params.name }, name(params.name)));
    fill(main, trainingNav("#/training/datasets"), head, place);
    shown(place, async () => {
      const dataset = await get(addressOf(params.name), { signal });
      return [
        factsPart(dataset, signal),
        picturesPart(dataset, signal),
        checkPart(dataset, signal),
        versionsPart(dataset, signal),
      ];
    }, "Loading the data set");
  },
};

const addressOf = (of) => `/v1/datasets/${encodeURIComponent(of)}`;

function factsPart(dataset, signal) {
  const [channels, height, width] = dataset.image_shape;
  const facts = [
    ["Images", `${whole(dataset.images)} of ${several(dataset.classes.length, "class")}`],
    ["Size", `${width}×${height}, ${channels === 1 ? "grey" : "colour"}, ${bytes(dataset.size_bytes)}`],
    dataset.flat_grounds !== null && ["Ground", `flat in ${Math.round(100 * dataset.flat_grounds)}% of the images`],
    ["Added", `${moment(dataset.created_at)}, ${dataset.format}${dataset.path ? ` at ${dataset.path}` : ""}`],
    ["Version", `${dataset.version}${dataset.replaced ? ", replaced by a later one" : ""}`],
    ["Content", el("code", { title: dataset.digest }, shortDigest(dataset.digest))],
  ];
  const trouble = el("div", {});
  const train = { class: "button primary", href: `#/training/new?dataset=${encodeURIComponent(dataset.name)}` };
  const left = leftOut(dataset);
  return el(
    "section",
    { class: "card stack", "aria-label": "Facts" },
    el(
      "dl",
      { class: "facts is-wide" },
      facts.filter(Boolean).map(([term, text]) => el("div", {}, el("dt", {}, term), el("dd", {}, text))),
    ),
    left && el("p", { class: "soft small" }, left.trim()),
    el(
      "div",
      { class: "actions" },
      el("a", train, "Train on it"),
      button("Rename", () => rename(dataset, trouble)),
      keepButton(addressOf(dataset.name), dataset.keep, { said: trouble, signal }),
    ),
    trouble,
  );
}

async function rename(dataset, trouble) {
  const wanted = input("name", { value: dataset.name, maxlength: 100, dir: "auto" });
  const submit = (close) => (event) => {
    event.preventDefault();
    close(wanted.value.trim());
  };
  const chosen = await openDialog(
    "Rename the data set",
    (close) =>
      el(
        "form",
        { class: "stack", novalidate: true, on: { submit: submit(close) } },
        field("New name", wanted, { hint: "Its jobs keep it." }),
        el("div", { class: "actions" }, el("button", { type: "submit", class: "primary" }, "Rename")),
      ),
    { narrow: true },
  );
  if (!chosen || chosen === dataset.name) return;
  try {
    const renamed = await put("PATCH", addressOf(dataset.name), { name: chosen });
    location.hash = datasetLink(renamed.name);
  } catch (error) {
    showProblem(trouble, error);
  }
}

function picturesPart(dataset, signal) {
  const classes = dataset.classes.filter((one) => one.images);
  const choice = select("class", classes.map((one) => [one.name, `${one.name} (${whole(one.images)})`]), {
    dir: "auto",
  });
  const place = el("div", { class: "pictures" });
  const words = el("span", { class: "soft small", role: "status" });
  const back = button("Previous", () => turn(-PAGE));
  const forth = button("Next", () => turn(PAGE));
  let offset = 0;
  choice.addEventListener("change", () => turn(-offset));
  turn(0);

  function turn(by) {
    offset += by;
    const { name: of, images } = classes.find((one) => one.name === choice.value);
    const last = Math.min(offset + PAGE, images);
    const columns = matchMedia("(max-width: 640px)").matches ? COLUMNS_ON_A_PHONE : COLUMNS;
    const query = { class: of, offset: offset || null, limit: PAGE, columns };
    fill(place, picture(withQuery(`${addressOf(dataset.name)}/pictures`, query), `Pictures of ${of}`, signal));
    words.textContent = `${whole(offset + 1)} to ${whole(last)} of ${whole(images)}`;
    back.disabled = offset === 0;
    forth.disabled = last >= images;
  }
  return el(
    "section",
    { class: "card stack", "aria-labelledby": "pictures-title" },
    el("h2", { id: "pictures-title" }, "Pictures"),
    field("Class", choice),
    place,
    el("div", { class: "pager" }, back, words, forth),
  );
}

function checkPart(dataset, signal) {
  const others = select("against", [["", "no other data set"]], { dir: "auto" });
  const place = el("div", { class: "stack", role: "status" });
  const start = button("Check the pictures", look);
  fillOthers();

  async function fillOthers() {
    try {
      for await (const page of pagesOf("/v1/datasets", { signal })) {
        others.append(...options(page.datasets.map((one) => one.name).filter((one) => one !== dataset.name)));
      }
    } catch {
      // without the list, the data set can still be checked alone
    }
  }
  async function look() {
    start.disabled = true;
    const [bar, words] = [progressBar("Check"), loading("Looking at all pictures")];
    fill(place, bar, words);
    const onProgress = (event) => {
      words.textContent = bar.show(event);
    };
    try {
      const address = withQuery(`${addressOf(dataset.name)}/check`, { against: others.value });
      const found = await awaitResult(address, { signal, onProgress });
      fill(place, resultOf(found, signal));
      announce("The check is done");
    } catch (error) {
      showProblem(place, error, { again: look });
    } finally {
      start.disabled = false;
    }
  }
  return el(
    "section",
    { class: "card stack", "aria-labelledby": "check-title" },
    el("h2", { id: "check-title" }, "Check"),
    el(
      "p",
      { class: "soft small" },
      "Finds repeated pictures, pictures unlike their class, flat ones and unequal classes.",
    ),
    field("Compare with", others, { hint: "Such as the test pictures: finds those that are in both." }),
    el("div", { class: "actions" }, start),
    place,
  );
}

function resultOf(found, signal) {
  const kinds = [
    ["Pictures that look alike", found.alike_groups, found.alike.map((one) => [said(one), one.pictures])],
    ["Unlike their class", found.unlike_count, found.unlike.map((one) => [one.class, [one]])],
    ["One colour only", found.flat_count, found.flat.map((one) => [one.class, [one]])],
  ];
  return [
    el("ul", { class: "findings" }, found.findings.map((one) => el("li", {}, one))),
    kinds.filter(([, count]) => count).map(([title, count, groups]) =>
      el(
        "details",
        { class: "more" },
        el("summary", {}, `${title} (${whole(count)})`),
        el(
          "ul",
          { class: "found" },
          groups.map(([text, pictures]) => el("li", {}, shownPictures(pictures, signal), name(text))),
        ),
        groups.length < count && el("p", { class: "soft small" }, `The first ${groups.length} are shown.`),
      )
    ),
  ];
}

function said(group) {
  const where = [...new Set(group.pictures.map((one) => one.class))].join(", ");
  const more = group.count > group.pictures.length ? `${whole(group.count)} pictures, ` : "";
  return `${more}${where}${group.identical ? ", identical" : ""}${group.both_datasets ? ", in both data sets" : ""}`;
}

/** Shows pictures of one or two data sets, those of each in one image. */
function shownPictures(pictures, signal) {
  const sets = [...new Set(pictures.map((one) => one.dataset))];
  return sets.map((of) => {
    const index = pictures.filter((one) => one.dataset === of).map((one) => one.index);
    const alt = `Pictures ${index.join(", ")} of ${of}`;
    return picture(withQuery(`${addressOf(of)}/pictures`, { index, columns: index.length }), alt, signal);
  });
}

function versionsPart(dataset, signal) {
  const place = el("div", {});
  shown(place, async () => {
    const { datasets } = await get("/v1/datasets", { query: { earlier_of: dataset.name, limit: 200 }, signal });
    if (!datasets.length) {
      return el("p", { class: "soft" }, "None. Upload a corrected folder under the same name to make one.");
    }
    return el(
      "ul",
      {},
      datasets.map((one) =>
        el(
          "li",
          {},
          el("a", { href: datasetLink(one.name) }, name(one.name)),
          ` · ${several(one.images, "image")}, ${moment(one.created_at)}`,
        )
      ),
    );
  }, "Loading versions");
  return el(
    "section",
    { class: "card stack", "aria-labelledby": "versions-title" },
    el("h2", { id: "versions-title" }, "Earlier versions"),
    place,
  );
}
