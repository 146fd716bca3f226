/** The list of training jobs. The address holds its filters and its page, and it is read again every few seconds. */

import { button } from "../components/button.js";
import { field, input, select } from "../components/fields.js";
import { progressBar } from "../components/progress-bar.js";
import { empty, loading, showProblem } from "../components/states.js";
import { badge, FINISHED, STATUSES } from "../components/status.js";
import { trainingNav } from "../components/sub-nav.js";
import { stackedTable } from "../components/table.js";
import { verdictBadge } from "../components/verdict.js";
import { get } from "../core/api.js";
import { el, fill, name, refill } from "../core/dom.js";
import { ago, duration, figure, short, until } from "../core/format.js";
import { poll } from "../core/poll.js";
import { rewriteQuery } from "../core/router.js";

const PAGE_JOBS = 50;
const FRESH_MILLISECONDS = 3000;
const TYPING_MILLISECONDS = 300;

export const jobsPage = {
  title: () => "Training jobs",
  render(main, { query, signal }) {
    const place = el("div", { class: "stack" }, loading("Loading jobs"));
    const filters = filtersOf(query, () => {
      cursors = [""];
      again();
    });
    /** Cursors of the pages from the first to the one that is shown. */
    let cursors = query.get("before") ? ["", query.get("before")] : [""];
    let latest = 0;

    async function look() {
      latest += 1;
      const number = latest;
      const asked = { before: cursors.at(-1), limit: PAGE_JOBS, ...filters.values() };
      const answer = await get("/v1/train-jobs", { query: asked, signal });
      if (number === latest) show(answer); // an answer that was overtaken is old
    }

    function show({ jobs, next_before: next }) {
      filters.model.fault(null);
      if (!jobs.length && cursors.length === 1) {
        const { status, model } = filters.values();
        fill(place, status || model ? empty("No such job", "Choose another state or model.") : noJobs());
        return;
      }
      const content = jobs.length ? table(jobs) : empty("There are no older jobs", "The page before was the last one.");
      refill(place, content, pager(jobs, next));
    }

    function pager(jobs, next) {
      const turn = (text, key, disabled, change) => {
        const go = () => {
          change();
          again();
          globalThis.scrollTo(0, 0);
        };
        return button(text, go, { "data-focus-key": key, disabled });
      };
      const first = cursors.length === 1;
      const toNewest = () => {
        cursors = [""];
      };
      return el(
        "div",
        { class: "pager" },
        el(
          "span",
          { class: "soft small", role: "status" },
          jobs.length ? `Jobs ${jobs.at(-1).id} to ${jobs[0].id}` : "",
        ),
        el(
          "div",
          { class: "actions", hidden: first && next === null },
          turn("Newest", "newest", first, toNewest),
          turn("← Newer", "newer", first, () => cursors.pop()),
          turn("Older →", "older", next === null, () => cursors.push(String(next))),
        ),
      );
    }

    async function again() {
      rewriteQuery({ ...filters.values(), before: cursors.at(-1) });
      try {
        await look();
      } catch (error) {
        failed(error);
      }
    }

    function failed(error) {
      if (error.status === 422 && error.errors.some((fault) => fault.pointer === "model")) {
        filters.model.fault("A model's name has lower-case letters, digits, dots and dashes.");
        return;
      }
      // while the service is away, the jobs that were read stay
      if (!place.querySelector("table") || error.status) showProblem(place, error, { again });
    }

    const start = el("a", { class: "button primary", href: "#/training/new" }, "New job");
    fill(
      main,
      trainingNav("#/training/jobs"),
      el("div", { class: "page-head" }, el("h1", {}, "Training jobs"), el("div", { class: "actions" }, start)),
      el("div", { class: "filters" }, filters.status, filters.model, goTo()),
      place,
    );
    poll(look, FRESH_MILLISECONDS, signal, failed);
  },
};

/** Returns the fields `status` and `model`, and their values. changed: called when the user changes one. */
function filtersOf(query, changed) {
  const status = field("State", select("status", [["", "any state"], ...STATUSES]));
  const model = field("Model", input("model", { type: "search", placeholder: "any model" }));
  let typing = null;
  status.control.value = query.get("status") || "";
  model.control.value = query.get("model") || "";
  status.control.addEventListener("change", changed);
  model.control.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(changed, TYPING_MILLISECONDS);
  });
  return { status, model, values: () => ({ status: status.control.value, model: model.control.value.trim() }) };
}

/** Makes the form that opens a job by its number. */
function goTo() {
  const number = input("number", { type: "number", min: 1, placeholder: "#" });
  const submit = (event) => {
    event.preventDefault();
    if (number.value) location.hash = `#/training/jobs/${number.value}`;
  };
  const open = el("button", { type: "submit" }, "Open");
  return el("form", { class: "row go-to", on: { submit } }, field("Job number", number), open);
}

function noJobs() {
  return empty(
    "No training job yet",
    "A job trains a model on a data set. A recipe says how. You can follow the job here.",
    el("a", { class: "button primary", href: "#/training/new" }, "Start one"),
    el("a", { class: "button", href: "#/training/datasets" }, "Upload a data set"),
  );
}

function table(jobs) {
  const heads = ["Job", "Model", "State", "Images", "Loss", "Best", "Data set", "Started"];
  return stackedTable("Jobs", heads, jobs.map(row), "jobs");
}

function row(job) {
  const { progress, best, dataset } = job;
  const bar = progressBar(`Progress of job ${job.id}`);
  bar.set(progress.images_done, progress.total_images);
  const left = progress.eta_seconds
    ? ` · ${duration(progress.eta_seconds)} left, until ${until(progress.eta_seconds)}`
    : "";
  const words = `${short(progress.images_done)} of ${short(progress.total_images)}${left}`;
  const link = { href: `#/training/jobs/${job.id}`, "data-focus-key": `job-${job.id}` };
  const isOver = FINISHED.includes(job.status);
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, el("a", link, `#${job.id}`)),
    el("td", {}, el("span", { class: "cell-name clamp" }, name(job.model))),
    el("td", {}, badge(job.status), " ", verdictBadge(job.verdict)),
    el(
      "td",
      { class: isOver ? "progress-cell is-over" : "progress-cell" },
      bar,
      el("span", { class: "small soft nowrap" }, words),
    ),
    el("td", {}, figure(progress.loss)),
    el("td", { class: "nowrap" }, best ? el("span", { title: best.metric }, figure(best.value)) : "–"),
    el("td", {}, el("span", { class: "cell-name clamp", title: dataset }, dataset === null ? "–" : name(dataset))),
    el("td", { class: "nowrap soft" }, job.started_at ? ago(job.started_at) : "not yet"),
  );
}
