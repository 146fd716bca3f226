/** A dialog that shows one image with everything that made it. */

import { button } from "../components/button.js";
import { codeBlock } from "../components/copy.js";
import { openDialog } from "../components/dialog.js";
import { drawnPicture } from "../components/picture.js";
import { el, fill, name } from "../core/dom.js";
import { figure } from "../core/format.js";
import { curlFor, fileName } from "./facts.js";
import { favour } from "./gallery.js";
import { effective, settings } from "./settings.js";

/** Opens the dialog. The arrow keys go to the neighbours. onMore: draws more with the same settings and seed. */
export function openImage(run, first, onMore) {
  const finished = run.images.filter((image) => image.finished);
  let at = finished.indexOf(first);
  const place = el("div", { class: "image-view" });
  const counter = el("span", { class: "soft small", role: "status" });
  const step = (by) => {
    at = (at + by + finished.length) % finished.length;
    show();
  };
  const star = button("", () => favour(run, finished[at], !finished[at].favourite).then(show));
  const show = () => {
    star.textContent = finished[at].favourite ? "★ Favourite" : "☆ Favourite";
    star.setAttribute("aria-pressed", String(finished[at].favourite === true));
    counter.textContent = `${at + 1} of ${finished.length}`;
    fill(place, imageView(run, finished[at]));
  };
  const more = (close) => {
    close();
    onMore(run, finished[at]);
  };
  show();
  return openDialog(first.class, () => place, {
    onKey: (event) => {
      if (event.target.closest("pre")) return; // arrow keys scroll the command line
      if (event.key === "ArrowRight") step(1);
      if (event.key === "ArrowLeft") step(-1);
    },
    foot: (close) => [
      counter,
      star,
      button("← Previous", () => step(-1)),
      button("Next →", () => step(1)),
      run.kind === "generate" && button("More like this seed", () => more(close), { class: "primary" }),
    ],
  });
}

function imageView(run, image) {
  const src = `data:image/png;base64,${image.png}`;
  const download = el("a", { class: "button", href: src, download: fileName(run, image) }, "Download");
  const alt = `${image.class}, image ${image.index} of seed ${run.facts.seed}`;
  return [
    el("div", { class: "image-large" }, drawnPicture({ src, alt }), download),
    el(
      "div",
      { class: "stack" },
      el("dl", { class: "facts" }, rowsOf(run, image)),
      el("h3", {}, run.kind === "generate" ? "Draw this image again" : "Draw all of them again"),
      codeBlock(curlFor(run, image), "Command line"),
    ),
  ];
}

function rowsOf(run, image) {
  const { facts, timings } = run;
  const used = effective(facts);
  const rows = [
    ["Class", [name(image.class), ` (${image.class_index})`]],
    ["Model", facts.model],
    ["Version", el("code", {}, facts.version)],
    ...seedRows(run, image),
    ...settings.filter(({ name }) => name in used).map(({ name, label }) => [label, [used[name]].flat().join(" to ")]),
    image.score !== null && ["Score", `${figure(image.score)}, one of ${facts.best_of} images drawn`],
    facts.choice && ["Chosen by", choiceOf(facts.choice)],
    timings && ["Time", `${figure(timings.queue_seconds)} s in the queue, ${figure(timings.run_seconds)} s drawing`],
  ];
  return rows.filter(Boolean).flatMap(([term, detail]) => [el("dt", {}, term), el("dd", {}, detail)]);
}

function seedRows({ kind, facts, images }, image) {
  if (kind === "generate") return [["Seed, index", `${facts.seed}, ${image.index}`]];
  return [
    ["Seeds, indices", `${facts.seeds.join(", ")} · ${facts.indices.join(", ")}`],
    ["Position", `${image.row + 1} of ${images.length}`],
  ];
}

function choiceOf({ by, quality, from }) {
  return `${by}${quality ? ` (${quality})` : ""}, from ${from}`;
}
