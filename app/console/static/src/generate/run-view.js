/** One run in the gallery: its title, its progress, and its images as they come, in a row for each class. */

import { button } from "../components/button.js";
import { classRows, tiles } from "../components/class-rows.js";
import { drawnPicture } from "../components/picture.js";
import { progressBar } from "../components/progress-bar.js";
import { problemNotice } from "../components/states.js";
import { announce } from "../core/announce.js";
import { el, fill, name } from "../core/dom.js";
import { duration, several } from "../core/format.js";
import { differences, linkTo } from "./facts.js";
import { remove, runs } from "./gallery.js";
import { openImage } from "./image-dialog.js";
import { isPicked, pickChanges, togglePick } from "./picks.js";

const MOST_TITLED = 3;

/** Makes the element. signal: when the user leaves the page. The run itself continues. */
export function runView(run, { signal, onMore, onCompare }) {
  const bar = progressBar("Drawing");
  const words = el("span", { class: "soft small" });
  const cancel = button("Cancel", () => run.cancel(), { class: "compact" });
  const ended = el("div", { class: "actions run-actions" });
  const trouble = el("div", {});
  const other = runs.find((one) => one.id === run.beside);
  const views = new Map(run.images.map((image) => [image, tile(run, image, onMore, signal)]));
  const sides = [el("p", { class: "small" }), el("p", { class: "small" })];
  const node = el(
    "section",
    { class: "card run", "aria-label": `Images: ${run.title.slice(0, MOST_TITLED).join(", ")}` },
    el("div", { class: "card-head" }, el("h2", {}, titleOf(run)), el("div", { class: "row" }, words, cancel)),
    bar,
    trouble,
    other && el("div", { class: "sides" }, sides),
    tilesOf(run, views, other, (image) => tile(other, image, onMore, signal)),
    ended,
  );

  const showStatus = () => {
    const failed = run.status === "failed";
    cancel.hidden = bar.hidden = !run.isOpen;
    words.textContent = wordsOf(run);
    // the form shows why the service refuses the request itself
    const shown = failed && run.problem.status !== 422;
    fill(trouble, shown && problemNotice(run.problem, { again: () => run.start() }));
    node.classList.toggle("is-blank", failed && !run.images.some((image) => image.png));
    fill(ended, !run.isOpen && endedActions(run, trouble, onCompare));
    if (other && run.facts) sides.forEach((side, at) => fill(side, differences(other, run)[at] || "the same settings"));
    for (const view of views.values()) view.show();
  };
  const showProgress = () => {
    bar.set(run.progress.done, run.progress.total);
    words.textContent = wordsOf(run);
  };
  run.addEventListener("status", () => {
    showStatus();
    if (run.status === "done") announce(`${several(run.images.length, "image")} drawn`);
    if (run.status === "cancelled") announce("Cancelled");
  }, { signal });
  run.addEventListener("progress", showProgress, { signal });
  run.addEventListener("image", (event) => views.get(event.detail).show(), { signal });
  showProgress();
  showStatus();
  return node;
}

/** Makes a row for each class; beside a run that it is compared with, that run's images at the left. */
function tilesOf(run, views, other, otherTile) {
  if (run.kind === "interpolate") return el("div", { class: "tiles is-way" }, [...views.values()]);
  const own = (images) => tiles(images.map((image) => views.get(image)));
  if (!other) {
    return classRows(run.images, own, { heading: new Set(run.images.map((one) => one.class_index)).size > 1 });
  }
  const others = (index) => tiles(other.images.filter((image) => image.class_index === index).map(otherTile));
  return classRows(run.images, (images, index) => el("div", { class: "sides" }, others(index), own(images)));
}

function endedActions(run, trouble, onCompare) {
  const { facts, kind } = run;
  const compare = () => {
    if (onCompare(run)) return;
    const text = "Choose another version, a preset or other settings in the form. Then press Compare again: the " +
      "service draws the same seeds with them, and shows both side by side.";
    fill(trouble, el("p", { class: "notice", role: "status" }, text));
  };
  const link = facts && kind === "generate" &&
    el("a", { class: "button compact", href: linkTo(run) }, "Use these settings");
  return [
    facts && kind === "generate" && button("Compare", compare, { class: "compact" }),
    link,
    button("Remove", () => remove(run), { class: "quiet compact" }),
  ];
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
    node.classList.toggle("is-favourite", image.favourite === true);
    node.hidden = !image.finished && (run.status === "cancelled" || run.status === "failed");
    open.disabled = !image.finished;
    const opens = image.favourite ? `Open ${what}, a favourite` : `Open ${what}`;
    open.setAttribute("aria-label", image.finished ? opens : `${what}, being drawn`);
    pick.setAttribute("aria-label", `Pick ${what}`);
    pick.hidden = !image.finished;
    open.title = image.score === null ? image.class : `${image.class}, score ${image.score.toFixed(2)}`;
  };
  pickChanges.addEventListener("change", showPick, { signal });
  showPick();
  node.show();
  return node;
}
