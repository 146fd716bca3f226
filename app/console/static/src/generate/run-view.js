/** One run in the gallery: its title, its progress, and its images as they come. */

import { button } from "../components/button.js";
import { drawnPicture } from "../components/picture.js";
import { progressBar } from "../components/progress-bar.js";
import { problemNotice } from "../components/states.js";
import { announce } from "../core/announce.js";
import { el, fill, name } from "../core/dom.js";
import { duration } from "../core/format.js";
import { openImage } from "./image-dialog.js";
import { isPicked, pickChanges, togglePick } from "./picks.js";

const MOST_TITLED = 6;

/** Makes the element. signal: when the user leaves the page. The run itself continues. */
export function runView(run, { signal, onMore }) {
  const bar = progressBar("Drawing");
  const words = el("span", { class: "soft small" });
  const cancel = button("Cancel", () => run.cancel(), { class: "compact" });
  const trouble = el("div", {});
  const views = new Map(run.images.map((image) => [image, tile(run, image, onMore, signal)]));
  const tiles = el("div", { class: run.kind === "interpolate" ? "tiles is-way" : "tiles" }, [...views.values()]);
  const node = el(
    "section",
    { class: "card run", "aria-label": `Images: ${run.title.slice(0, MOST_TITLED).join(", ")}` },
    el("div", { class: "card-head" }, el("h2", {}, titleOf(run)), el("div", { class: "row" }, words, cancel)),
    bar,
    trouble,
    tiles,
  );

  const showStatus = () => {
    const failed = run.status === "failed";
    cancel.hidden = bar.hidden = !run.isOpen;
    words.textContent = wordsOf(run);
    // the form shows why the service refuses the request itself
    const shown = failed && run.problem.status !== 422;
    fill(trouble, shown && problemNotice(run.problem, { again: () => run.start() }));
    tiles.hidden = failed && !run.images.some((image) => image.png);
    for (const view of views.values()) view.show();
  };
  const showProgress = () => {
    bar.set(run.progress.done, run.progress.total);
    words.textContent = wordsOf(run);
  };
  run.addEventListener("status", () => {
    showStatus();
    if (run.status === "done") announce(`${run.images.length} images are drawn`);
    if (run.status === "cancelled") announce("Cancelled");
  }, { signal });
  run.addEventListener("progress", showProgress, { signal });
  run.addEventListener("image", (event) => views.get(event.detail).show(), { signal });
  showProgress();
  showStatus();
  return node;
}

function titleOf(run) {
  if (run.kind === "interpolate") return [name(run.title[0]), " → ", name(run.title[1])];
  const named = run.title.slice(0, MOST_TITLED).flatMap((text, at) => [at ? ", " : "", name(text)]);
  return run.title.length > MOST_TITLED ? [...named, ` and ${run.title.length - MOST_TITLED} more`] : named;
}

function wordsOf({ status, progress, facts, timings }) {
  const { done, total } = progress;
  if (status === "waiting") return "waiting for the service";
  if (status === "running") return total ? `${Math.round((100 * done) / total)}%` : "in the queue";
  const what = facts &&
    [facts.model, `seed ${facts.seed}`, `${facts.sampler} ${facts.steps}`, `guidance ${facts.guidance}`];
  if (status === "done") return [...what, duration(timings.run_seconds)].join(" · ");
  return status === "cancelled" ? ["cancelled", ...(what || [])].join(" · ") : "failed";
}

function tile(run, image, onMore, signal) {
  const picture = drawnPicture({ alt: "" });
  const open = button(picture, () => openImage(run, image, onMore), { class: "tile-open", disabled: true });
  const pick = button("pick", () => togglePick(run, image), { class: "tile-pick", "aria-pressed": "false" });
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
