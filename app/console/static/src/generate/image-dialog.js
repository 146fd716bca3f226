/** One image with everything that made it. */

import { el, fill, name } from "../core/dom.js";
import { figure } from "../core/format.js";
import { codeBlock } from "../components/copy.js";
import { openDialog } from "../components/dialog.js";
import { pixelated } from "../components/picture.js";
import { curlFor, fileName } from "./facts.js";
import { effective, settings } from "./settings.js";

/** Open it; arrow keys go to its neighbours. onMore: draws more with the same settings and seed. */
export function openImage(run, first, onMore) {
  const finished = run.images.filter((image) => image.finished);
  let at = finished.indexOf(first);
  const place = el("div", { class: "image-view" });
  const counter = el("span", { class: "soft small", role: "status" });
  const step = (by) => {
    at = (at + by + finished.length) % finished.length;
    show();
  };
  const show = () => {
    const image = finished[at];
    const address = `data:image/png;base64,${image.png}`;
    const picture = el("img", {
      class: "picture",
      src: address,
      alt: `${image.class}, image ${image.index} of seed ${run.facts.seed}`,
    });
    picture.addEventListener("load", () => pixelated(picture));
    counter.textContent = `${at + 1} of ${finished.length}`;
    fill(
      place,
      el(
        "div",
        { class: "image-large" },
        picture,
        el("a", { class: "button", href: address, download: fileName(run, image) }, "Download"),
      ),
      el(
        "div",
        { class: "stack" },
        el("dl", { class: "facts" }, rowsOf(run, image)),
        el("h3", {}, run.kind === "generate" ? "This image again" : "All of them again"),
        codeBlock(curlFor(run, image), "Command line that makes it"),
      ),
    );
  };
  show();
  return openDialog(first.class, () => place, {
    onKey: (event) => {
      if (event.target.closest("pre")) return; // arrows scroll it
      if (event.key === "ArrowRight") step(1);
      if (event.key === "ArrowLeft") step(-1);
    },
    foot: (close) => [
      counter,
      el("button", { type: "button", on: { click: () => step(-1) } }, "← Previous"),
      el("button", { type: "button", on: { click: () => step(1) } }, "Next →"),
      run.kind === "generate" &&
      el(
        "button",
        { type: "button", class: "primary", on: { click: () => (close(), onMore(run, finished[at])) } },
        "More like this seed",
      ),
    ],
  });
}

function rowsOf(run, image) {
  const { facts } = run;
  const used = effective(facts);
  const rows = [
    ["Class", [name(image.class), ` (${image.class_index})`]],
    ["Model", `${facts.model}`],
    ["Version", el("code", {}, facts.version)],
    run.kind === "generate"
      ? ["Seed, index", `${facts.seed}, ${image.index}`]
      : ["Seeds, indices", `${facts.seeds.join(", ")} · ${facts.indices.join(", ")}`],
    run.kind === "interpolate" && ["On the way", `${image.row + 1} of ${run.images.length}`],
    ...settings.filter(({ name }) => name in used).map(({ name, label }) => [label, [used[name]].flat().join(" to ")]),
    image.score !== null && ["Score", `${figure(image.score)}, of ${facts.best_of} drawn`],
    facts.choice &&
    [
      "Picked by",
      `${facts.choice.by}${facts.choice.quality ? ` (${facts.choice.quality})` : ""}, from ${facts.choice.from}`,
    ],
    run.timings &&
    ["Time", `${figure(run.timings.queue_seconds)} s in the queue, ${figure(run.timings.run_seconds)} s drawing`],
  ];
  return rows.filter(Boolean).flatMap(([term, detail]) => [el("dt", {}, term), el("dd", {}, detail)]);
}
