/** One run in the gallery: its title, how far it is, and its images as they come. */

import { announce } from "../core/announce.js";
import { el, fill, name } from "../core/dom.js";
import { duration } from "../core/format.js";
import { progressBar } from "../components/progress-bar.js";
import { problemNotice } from "../components/states.js";
import { pixelated } from "../components/picture.js";
import { openImage } from "./image-dialog.js";
import { isPicked, pickChanges, togglePick, wayTitle } from "./picks.js";

const MOST_TITLED = 6;

/** The element. signal: when the page is left; the run itself goes on. */
export function runView(run, { signal, onMore }) {
  const bar = progressBar("Drawing");
  const words = el("span", { class: "soft small" });
  const cancel = el("button", { type: "button", class: "compact", on: { click: () => run.cancel() } }, "Cancel");
  const trouble = el("div", {});
  const tiles = new Map(run.images.map((image) => [image, tile(run, image, onMore, signal)]));
  const node = el(
    "section",
    { class: "card run", "aria-label": `Images: ${run.title.slice(0, MOST_TITLED).join(", ")}` },
    el("div", { class: "card-head" }, el("h2", {}, titleOf(run)), el("div", { class: "row" }, words, cancel)),
    bar,
    trouble,
    el("div", { class: run.kind === "interpolate" ? "tiles is-way" : "tiles" }, [...tiles.values()]),
  );

  const showStatus = () => {
    cancel.hidden = bar.hidden = !run.isOpen;
    words.textContent = wordsOf(run);
    fill(
      trouble,
      run.status === "failed" && run.problem.status !== 422
        ? problemNotice(run.problem, { again: () => run.start() })
        : null,
    );
    node.querySelector(".tiles").hidden = run.status === "failed" && !run.images.some((image) => image.png);
    for (const view of tiles.values()) view.show();
  };
  run.addEventListener("status", () => {
    showStatus();
    if (run.status === "done") announce(`${run.images.length} images are drawn`);
    if (run.status === "cancelled") announce("Cancelled");
  }, { signal });
  run.addEventListener("progress", () => {
    bar.set(run.progress.done, run.progress.total);
    words.textContent = wordsOf(run);
  }, { signal });
  run.addEventListener("image", (event) => tiles.get(event.detail).show(), { signal });
  bar.set(run.progress.done, run.progress.total);
  showStatus();
  return node;
}

function titleOf(run) {
  if (run.kind === "interpolate") return wayTitle(run);
  const named = run.title.slice(0, MOST_TITLED).flatMap((text, at) => [at ? ", " : "", name(text)]);
  return run.title.length > MOST_TITLED ? [...named, ` and ${run.title.length - MOST_TITLED} more`] : named;
}

function wordsOf(run) {
  const { done, total } = run.progress;
  if (run.status === "waiting") return "waiting for the service";
  if (run.status === "running") return total ? `${Math.round((100 * done) / total)}%` : "in the queue";
  const { facts } = run;
  const what = facts
    ? `${facts.model} · seed ${facts.seed} · ${facts.sampler} ${facts.steps} · guidance ${facts.guidance}`
    : "";
  if (run.status === "done") return `${what} · ${duration(run.timings.run_seconds)}`;
  return run.status === "cancelled" ? `cancelled${what && ` · ${what}`}` : "not drawn";
}

function tile(run, image, onMore, signal) {
  const picture = el("img", { alt: "", class: "picture" });
  picture.addEventListener("load", () => pixelated(picture));
  const open = el("button", {
    type: "button",
    class: "tile-open",
    disabled: true,
    on: { click: () => openImage(run, image, onMore) },
  }, picture);
  const pick = el("button", {
    type: "button",
    class: "tile-pick",
    "aria-pressed": "false",
    on: { click: () => togglePick(run, image) },
  }, "pick");
  const node = el("div", { class: "tile" }, open, pick);
  const showPick = () => {
    pick.setAttribute("aria-pressed", String(isPicked(image)));
    pick.textContent = isPicked(image) ? "picked" : "pick";
  };
  node.show = () => {
    const what = `${image.class}, image ${image.index}`;
    if (image.png) picture.src = `data:image/png;base64,${image.png}`;
    node.classList.toggle("is-empty", !image.png);
    node.classList.toggle("is-preview", !image.finished);
    node.hidden = !image.finished && (run.status === "cancelled" || run.status === "failed");
    open.disabled = !image.finished;
    open.setAttribute("aria-label", image.finished ? `Open ${what}` : `${what}, being drawn`);
    pick.setAttribute("aria-label", `Pick ${what}`);
    pick.hidden = !image.finished || run.kind === "interpolate";
    open.title = image.score === null ? image.class : `${image.class}, score ${image.score.toFixed(2)}`;
  };
  pickChanges.addEventListener("change", showPick, { signal });
  showPick();
  return node;
}
