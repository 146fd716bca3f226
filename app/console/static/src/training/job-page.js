/** One training job, live: curves, samples, checkpoints, events, log, and what can be asked of it. */

import { announce } from "../core/announce.js";
import { get, put } from "../core/api.js";
import { el, fill, name } from "../core/dom.js";
import { follow } from "../core/event-stream.js";
import { duration, figure, moment, short, whole } from "../core/format.js";
import { pause, poll } from "../core/poll.js";
import { confirmed } from "../components/dialog.js";
import { codeBlock } from "../components/copy.js";
import { progressBar } from "../components/progress-bar.js";
import { loading, problemNotice } from "../components/states.js";
import { badge, FINISHED } from "../components/status.js";
import { trainingNav } from "../components/sub-nav.js";
import { checkpointsPart } from "./checkpoints-part.js";
import { curvesPart } from "./curves-part.js";
import { eventsPart } from "./events-part.js";
import { logPart } from "./log-part.js";
import { samplesPart } from "./samples-part.js";

const CURVES_MILLISECONDS = 2000;
const LOG_MILLISECONDS = 3000;

export const jobPage = {
  title: ({ id }) => `Job ${id}`,
  async render(main, { params, signal }) {
    const address = `/v1/train-jobs/${encodeURIComponent(params.id)}`;
    const place = el("div", {}, loading("Loading the job"));
    fill(
      main,
      trainingNav("#/training/jobs"),
      el("div", { class: "page-head" }, el("h1", {}, `Job ${params.id}`)),
      place,
    );
    const begin = async () => {
      try {
        const job = await get(address, { signal });
        openJob(main, place, address, job, signal);
      } catch (error) {
        if (error.name !== "AbortError") fill(place, problemNotice(error, { again: begin, unasked: true }));
      }
    };
    await begin();
  },
};

function openJob(main, place, address, job, signal) {
  const actions = el("div", { class: "actions" });
  const state = el("span", {});
  const bar = progressBar("Images seen");
  const words = el("p", { class: "soft small" });
  const trouble = el("div", {});
  const failure = el("div", {});
  const facts = el("dl", { class: "facts is-wide" });
  fill(
    main.querySelector(".page-head"),
    el("h1", { tabindex: "-1" }, `Job ${job.id} · `, name(job.model)),
    state,
    actions,
  );
  const curves = curvesPart(address, signal);
  const samples = samplesPart(address, job, signal);
  const checkpoints = checkpointsPart(address, job, signal);
  const events = eventsPart();
  const log = logPart(address, signal);
  fill(
    place,
    el(
      "div",
      { class: "stack" },
      trouble,
      failure,
      el("section", { class: "card stack", "aria-label": "Progress" }, bar, words, facts),
      curves.node,
      samples.node,
      checkpoints.node,
      el("div", { class: "grid-2" }, events.node, log.node),
      el(
        "details",
        { class: "card more" },
        el("summary", {}, "Configuration"),
        codeBlock(JSON.stringify(job.configuration, null, 2), "Configuration"),
      ),
    ),
  );

  let changing = false;

  function show() {
    const { progress } = job;
    fill(state, badge(job.status));
    bar.set(progress.images_done, progress.total_images);
    const speed = progress.images_per_second && job.status === "running"
      ? ` · ${short(progress.images_per_second)} images/s`
      : "";
    const left = progress.eta_seconds ? ` · ${duration(progress.eta_seconds)} left` : "";
    words.textContent = `${whole(progress.images_done)} of ${whole(progress.total_images)} images${speed}${left}${
      progress.loss === null ? "" : ` · loss ${figure(progress.loss)}`
    }`;
    fill(
      failure,
      job.failure && job.status !== "succeeded"
        ? el(
          "div",
          { class: "notice problem" },
          el("p", { class: "notice-title" }, `The last attempt ended badly: ${job.failure.kind}`),
          el("p", {}, job.failure.detail),
        )
        : null,
    );
    fill(facts, factsOf(job));
    offer();
  }

  /** The button that the state allows: the same one while it does, so that it keeps the focus. */
  function offer() {
    const steps = {
      queued: ["Cancel", cancel, "danger"],
      running: ["Cancel", cancel, "danger"],
      cancelled: ["Resume", () => change("resume")],
      failed: ["Retry", () => change("retry")],
    };
    const [text, click, kind] = steps[job.status] || [""];
    if (actions.textContent !== text) {
      const focused = actions.contains(document.activeElement);
      fill(actions, text ? button(text, click, kind) : null);
      if (focused) (actions.firstChild || main.querySelector("h1")).focus();
    }
  }

  async function cancel() {
    const text = job.status === "running"
      ? "It is asked to store a checkpoint first. If it does not stop in time it is killed, and can be resumed from the last checkpoint that it has."
      : "It waits, and can be resumed later.";
    if (await confirmed(`Cancel job ${job.id}?`, text, "Cancel the job", { danger: true })) await change("cancel");
  }

  async function change(what) {
    if (changing) return;
    changing = true;
    try {
      job = await put("POST", `${address}/${what}`, undefined, { signal });
      fill(trouble);
      announce(`The job is ${job.status}`);
      if (what !== "cancel") watch();
    } catch (error) {
      if (error.name === "AbortError") return;
      fill(trouble, problemNotice(error, { again: () => change(what) }));
    } finally {
      changing = false;
    }
    show();
  }

  let curvesDue = null;

  /** The curves anew: at most so often, but never without the last figures. */
  function curvesSoon() {
    curvesDue ??= pause(CURVES_MILLISECONDS, signal).then(() => {
      curvesDue = null;
      if (!signal.aborted) curves.look();
    });
  }

  let refreshing = null;

  /** The job anew, once for all that ask meanwhile. */
  function refresh() {
    refreshing ??= get(address, { signal })
      .then((found) => {
        job = found;
        show();
        checkpoints.look(job);
      })
      .catch(() => {}) // the stream says when the service is away
      .finally(() => {
        refreshing = null;
      });
  }

  function take(event) {
    const { kind, data } = event;
    if (kind === "progress") {
      job.progress = { ...job.progress, ...data };
      if (!FINISHED.includes(job.status)) job.status = data.status;
      show();
      curvesSoon();
      return;
    }
    if (kind !== "end") events.add(event);
    if (kind === "status") {
      job.status = data.status;
      refresh();
    }
    if (kind === "samples") samples.look();
    if (["checkpoint", "evaluation", "best", "promoted"].includes(kind)) refresh();
    if (kind === "evaluation") curves.lookAtFigures();
    if (kind === "end") {
      job.status = data.status;
      refresh();
      curves.look();
      curves.lookAtFigures();
      samples.look();
      log.look();
      announce(`The job has ${data.status === "cancelled" ? "been cancelled" : data.status}`);
    }
  }

  let watching = false;
  async function watch() {
    if (watching) return;
    watching = true;
    events.clear();
    try {
      await follow(`${address}/events`, { signal, onEvent: take });
    } catch (error) {
      if (error.name !== "AbortError") fill(trouble, problemNotice(error, { again: watch }));
    } finally {
      watching = false;
    }
  }

  show();
  curves.look();
  curves.lookAtFigures();
  samples.look();
  checkpoints.look(job);
  watch();
  // no event tells of a line
  poll(async () => FINISHED.includes(job.status) || log.look(), LOG_MILLISECONDS, signal);
}

const button = (text, click, kind = null) => el("button", { type: "button", class: kind, on: { click } }, text);

function factsOf(job) {
  const { recipe } = job.configuration;
  const rows = [
    ["Data set", job.dataset === null ? "–" : name(job.dataset)],
    [
      "Recipe",
      `batch ${recipe.training.batch_size}, learning rate ${recipe.optimizer.learning_rate}, seed ${recipe.training.seed}, ${recipe.training.precision}`,
    ],
    ["Queued", moment(job.created_at)],
    ["Began", `${moment(job.started_at)}${job.attempt > 1 ? ` (attempt ${job.attempt})` : ""}`],
    job.finished_at && ["Ended", moment(job.finished_at)],
    job.worker && ["Worker", name(job.worker)],
    job.best &&
    [
      "Best",
      `${figure(job.best.value)} ${job.best.metric}, version ${job.best.version} after ${
        whole(job.best.images_seen)
      } images`,
    ],
    job.parent_id && ["Goes on from", el("a", { href: `#/training/jobs/${job.parent_id}` }, `job ${job.parent_id}`)],
    job.sweep_id && ["Part of", el("a", { href: `#/training/sweeps/${job.sweep_id}` }, `sweep ${job.sweep_id}`)],
    ["Promotion", job.promote === "never" ? "by hand" : "the best checkpoint, when it ends"],
  ];
  return rows.filter(Boolean).map(([term, detail]) => el("div", {}, el("dt", {}, term), el("dd", {}, detail)));
}
