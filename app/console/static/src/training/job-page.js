/** One training job while it runs: its progress, curves, samples, checkpoints, events and log. */

import { button } from "../components/button.js";
import { codeBlock } from "../components/copy.js";
import { deleted } from "../components/deletion.js";
import { confirmed } from "../components/dialog.js";
import { progressBar } from "../components/progress-bar.js";
import { loading, notice, showProblem } from "../components/states.js";
import { badge, FINISHED } from "../components/status.js";
import { trainingNav } from "../components/sub-nav.js";
import { expectedEnd, verdictBadge, verdictNotice } from "../components/verdict.js";
import { announce } from "../core/announce.js";
import { get, put } from "../core/api.js";
import { el, fill, name } from "../core/dom.js";
import { follow } from "../core/event-stream.js";
import { duration, figure, moment, short, until, whole } from "../core/format.js";
import { toJson } from "../core/json.js";
import { pause, poll } from "../core/poll.js";
import { generateFromIt } from "../models/promotion.js";
import { checkpointsPart } from "./checkpoints-part.js";
import { curvesPart } from "./curves-part.js";
import { eventsPart } from "./events-part.js";
import { logPart } from "./log-part.js";
import { expectation, reasons } from "./plan-part.js";
import { samplesPart } from "./samples-part.js";

const CURVES_MILLISECONDS = 2000;
const LOG_MILLISECONDS = 3000;
const REMOVED = { states: "States", points: "Curve", logs: "Log", events: "Events" };

export const jobPage = {
  title: ({ id }) => `Job ${id}`,
  async render(main, { params, signal }) {
    const address = `/v1/train-jobs/${encodeURIComponent(params.id)}`;
    const place = el("div", {}, loading("Loading the job"));
    const head = el("div", { class: "page-head" }, el("h1", {}, `Job ${params.id}`));
    fill(main, trainingNav("#/training/jobs"), head, place);
    const begin = async () => {
      try {
        openJob({ head, place, address, signal, job: await get(address, { signal }) });
      } catch (error) {
        showProblem(place, error, { again: begin, unasked: true });
      }
    };
    await begin();
  },
};

function openJob({ head, place, address, signal, job }) {
  const curves = curvesPart(address, signal);
  const samples = samplesPart(address, job, signal);
  const checkpoints = checkpointsPart(address, job, signal);
  const events = eventsPart();
  const log = logPart(address, signal);
  const trouble = el("div", {});
  const promotion = el("div", {});
  const steps = stepsOf({ address, signal, trouble, changed });
  const summary = summaryOf(head, job, steps);
  const configuration = codeBlock(toJson(job.configuration, 2), "Configuration");
  fill(
    place,
    el(
      "div",
      { class: "stack" },
      trouble,
      promotion,
      summary.nodes,
      curves.node,
      samples.node,
      checkpoints.node,
      el("div", { class: "grid-2" }, events.node, log.node),
      job.configuration.planned && planned(job.configuration.planned),
      el("details", { class: "card more" }, el("summary", {}, "Configuration"), configuration),
    ),
  );

  let changes = 0;

  function changed(found, what) {
    changes += 1;
    job = found;
    announce(what === "keep" ? `The job is ${job.keep ? "" : "no longer "}marked` : `The job is ${job.status}`);
    if (["resume", "retry"].includes(what)) watch();
    summary.show(job);
  }

  const curvesSoon = atMostOnce(async () => {
    await pause(CURVES_MILLISECONDS, signal);
    if (!signal.aborted) curves.look();
  });

  const refresh = atMostOnce(async () => {
    const before = changes;
    const found = await get(address, { signal }).catch(() => null);
    if (!found) return; // the stream of events tells the user when the service is away
    if (changes !== before) return; // the user's change came later than this answer was made
    job = found;
    summary.show(job);
    checkpoints.look();
  });

  function take(event) {
    const { kind, data } = event;
    if (kind === "progress") takeProgress(data);
    else if (kind === "end") takeEnd(data);
    else events.add(event);
    if (kind === "status") job.status = data.status;
    if (kind === "promoted") fill(promotion, promotedNotice(job.model, data));
    if (kind === "samples") samples.look();
    if (kind === "evaluation") curves.lookAtFigures();
    if (["status", "checkpoint", "evaluation", "best", "promoted", "verdict"].includes(kind)) refresh();
  }

  function takeProgress(data) {
    job.progress = { ...job.progress, ...data };
    if (!FINISHED.includes(job.status)) job.status = data.status;
    summary.show(job);
    curvesSoon();
  }

  function takeEnd({ status }) {
    job.status = status;
    refresh();
    lookAtAll();
    log.look();
    announce(`The job has ${status === "cancelled" ? "been cancelled" : status}`);
  }

  function lookAtAll() {
    curves.look();
    curves.lookAtFigures();
    samples.look();
  }

  const watch = atMostOnce(async () => {
    events.clear();
    try {
      await follow(`${address}/events`, { signal, onEvent: take });
    } catch (error) {
      showProblem(trouble, error, { again: watch });
    }
  });

  summary.show(job);
  lookAtAll();
  checkpoints.look();
  watch();
  // no event announces a line of the log
  poll(() => FINISHED.includes(job.status) || log.look(), LOG_MILLISECONDS, signal);
}

function promotedNotice(model, { version }) {
  return notice(
    "good",
    `Version ${version} was promoted`,
    el("div", { class: "actions" }, generateFromIt(model, version)),
  );
}

function planned(plan) {
  return el("section", { class: "card stack" }, el("h2", {}, "Plan"), expectation(plan), reasons(plan.choices));
}

/** Returns a function that calls `work`, unless an earlier call has not finished. */
function atMostOnce(work) {
  let running = null;
  return () => {
    running ??= work().finally(() => {
      running = null;
    });
  };
}

/**
 * Returns what the user can do with a job: `cancel(job)`, `resume()`, `retry()`, `keep(job)` and `remove(job)`.
 * changed: gets the job after it.
 */
function stepsOf({ address, signal, trouble, changed }) {
  let changing = false;

  async function change(what, shown = null) {
    if (changing) return;
    changing = true;
    try {
      const job = what === "keep"
        ? await put("PATCH", address, { keep: !shown.keep }, { signal })
        : await put("POST", `${address}/${what}`, undefined, { signal });
      fill(trouble);
      changed(job, what);
    } catch (error) {
      showProblem(trouble, error, { again: () => change(what, shown) });
    } finally {
      changing = false;
    }
  }

  async function cancel(job) {
    const text = job.status === "running"
      ? "The job is asked to store a checkpoint first. If it does not stop in time, it is killed. " +
        "You can resume it from its last checkpoint."
      : "The job waits in the queue. You can resume it later.";
    if (await confirmed(`Cancel job ${job.id}?`, text, "Cancel the job", { danger: true })) await change("cancel");
  }

  async function remove(job) {
    try {
      if (await deleted(address, `job ${job.id}`, signal)) location.hash = "#/training/jobs";
    } catch (error) {
      showProblem(trouble, error);
    }
  }
  return {
    cancel,
    remove,
    resume: () => change("resume"),
    retry: () => change("retry"),
    keep: (job) => change("keep", job),
  };
}

/** Returns {nodes, show(job)}: the progress and the facts of a job. The state and the buttons stand in `head`. */
function summaryOf(head, job, steps) {
  const title = el("h1", { tabindex: "-1" }, `Job ${job.id} · `, name(job.model));
  const state = el("span", {});
  const actions = el("div", {});
  const mark = button("", () => steps.keep(shown), {
    title: "While a job is marked, its records stay and nobody can delete it.",
  });
  const remove = button("Delete", () => steps.remove(shown), { class: "danger" });
  const bar = progressBar("Images seen");
  const words = el("p", { class: "soft small" });
  const facts = el("dl", { class: "facts is-wide" });
  const failure = el("div", {});
  let shown = job;
  fill(head, title, state, el("div", { class: "actions" }, actions, mark, remove));

  /** Shows the button that the state allows. The same button stays in place, so that it keeps the focus. */
  function showActions() {
    const cancel = ["Cancel", () => steps.cancel(shown), { class: "danger" }];
    const cancelled = ["Resume", steps.resume];
    const failed = ["Retry", steps.retry];
    const [text, click, properties] = { queued: cancel, running: cancel, cancelled, failed }[shown.status] || [""];
    if (actions.textContent === text) return;
    const focused = actions.contains(document.activeElement);
    fill(actions, text && button(text, click, properties));
    if (focused) (actions.querySelector("button") || title).focus();
  }

  function show(its) {
    shown = its;
    fill(state, badge(its.status), " ", verdictBadge(its.verdict));
    bar.set(its.progress.images_done, its.progress.total_images);
    words.textContent = progressOf(its);
    fill(failure, its.failure && its.status !== "succeeded" && failureNotice(its.failure), verdictNotice(its.verdict));
    fill(facts, factsOf(its));
    mark.textContent = its.keep ? "Do not keep" : "Keep";
    remove.hidden = !FINISHED.includes(its.status);
    showActions();
  }
  const card = el("section", { class: "card stack", "aria-label": "Progress" }, bar, words, facts);
  return { nodes: [failure, card], show };
}

function failureNotice({ kind, detail }) {
  return notice("problem", `The last attempt failed: ${kind}`, el("p", {}, detail));
}

function progressOf({ progress, status }) {
  return [
    `${whole(progress.images_done)} of ${whole(progress.total_images)} images`,
    progress.images_per_second && status === "running" && `${short(progress.images_per_second)} images/s`,
    progress.eta_seconds && `${duration(progress.eta_seconds)} left, until ${until(progress.eta_seconds)}`,
    progress.loss !== null && `loss ${figure(progress.loss)}`,
  ].filter(Boolean).join(" · ");
}

function factsOf(job) {
  const { recipe: { training, optimizer }, expected_seconds: seconds } = job.configuration;
  const { best } = job;
  const link = (what, id) => el("a", { href: `#/training/${what}s/${id}` }, `${what} ${id}`);
  const recipe = [
    `batch ${training.batch_size}`,
    `learning rate ${optimizer.learning_rate}`,
    `seed ${training.seed}`,
    training.precision,
  ];
  const rows = [
    ["Data set", job.dataset === null ? "–" : name(job.dataset)],
    ["Recipe", recipe.join(", ")],
    seconds && ["Expected to take", duration(seconds)],
    job.verdict?.forecast && ["Expected distance", expectedEnd(job.verdict)],
    ["Queued", moment(job.created_at)],
    ["Started", `${moment(job.started_at)}${job.attempt > 1 ? ` (attempt ${job.attempt})` : ""}`],
    job.finished_at && ["Ended", moment(job.finished_at)],
    job.worker && ["Worker", name(job.worker)],
    best &&
    ["Best", `${figure(best.value)} ${best.metric}, version ${best.version} after ${whole(best.images_seen)} images`],
    job.keep && ["Kept", "its records stay, and nobody can delete it"],
    ...Object.entries(job.removed).map(([part, { why }]) => [REMOVED[part], why]),
    job.parent_id && ["Continues", link("job", job.parent_id)],
    job.sweep_id && ["Part of", link("sweep", job.sweep_id)],
    ["Promotion", job.promote === "never" ? "by hand" : "the best checkpoint, when the job ends"],
  ];
  return rows.filter(Boolean).map(([term, detail]) => el("div", {}, el("dt", {}, term), el("dd", {}, detail)));
}
