/** The list of training jobs: pages by key, filters in the address, fresh while it is looked at. */

import { get } from "../core/api.js";
import { el, fill, name } from "../core/dom.js";
import { ago, duration, figure, short } from "../core/format.js";
import { poll } from "../core/poll.js";
import { rewriteQuery } from "../core/router.js";
import { field, input, select } from "../components/fields.js";
import { progressBar } from "../components/progress-bar.js";
import { empty, loading, problemNotice } from "../components/states.js";
import { badge, FINISHED, STATUSES } from "../components/status.js";
import { trainingNav } from "../components/sub-nav.js";

const PAGE_JOBS = 50;
const FRESH_MILLISECONDS = 3000;
const TYPING_MILLISECONDS = 300;

export const jobsPage = {
  title: () => "Training jobs",
  render(main, { query, signal }) {
    const status = select("status", [["", "any state"], ...STATUSES.map((one) => [one, one])], {
      value: query.get("status") || "",
    });
    const model = input("model", { type: "search", placeholder: "any model", value: query.get("model") || "" });
    status.value = query.get("status") || "";
    const number = input("number", { type: "number", min: 1, placeholder: "#" });
    const place = el("div", { class: "stack" }, loading("Loading jobs"));
    /** Cursors of the pages from the first to this one. */
    let cursors = query.get("before") ? ["", query.get("before")] : [""];
    let latest = 0;
    let typing = null;

    async function look() {
      const number_ = ++latest;
      const before = cursors.at(-1);
      const answer = await get("/v1/train-jobs", {
        query: { before, limit: PAGE_JOBS, status: status.value, model: model.value.trim() },
        signal,
      });
      if (number_ === latest) show(answer);
    }

    function show(answer) {
      model.closest(".field").fault(null);
      const { jobs } = answer;
      if (!jobs.length && cursors.length === 1) {
        fill(
          place,
          status.value || model.value.trim()
            ? empty("No job is like that", "Choose another state or model.")
            : noJobs(),
        );
        return;
      }
      const focused = place.contains(document.activeElement) ? document.activeElement.dataset.focusKey : null;
      fill(
        place,
        jobs.length ? table(jobs) : empty("There are no older jobs", "This was the last page."),
        pager(jobs, answer.next_before),
      );
      if (focused) place.querySelector(`[data-focus-key="${focused}"]`)?.focus({ preventScroll: true });
    }

    function pager(jobs, next) {
      const go = (change) => () => {
        change();
        again();
        window.scrollTo(0, 0);
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
          { class: "actions", hidden: cursors.length === 1 && next === null },
          el("button", {
            type: "button",
            "data-focus-key": "newest",
            disabled: cursors.length === 1,
            on: { click: go(() => (cursors = [""])) },
          }, "Newest"),
          el("button", {
            type: "button",
            "data-focus-key": "newer",
            disabled: cursors.length === 1,
            on: { click: go(() => cursors.pop()) },
          }, "← Newer"),
          el("button", {
            type: "button",
            "data-focus-key": "older",
            disabled: next === null,
            on: { click: go(() => cursors.push(String(next))) },
          }, "Older →"),
        ),
      );
    }

    async function again() {
      rewriteQuery({ status: status.value, model: model.value.trim(), before: cursors.at(-1) });
      try {
        await look();
      } catch (error) {
        trouble(error);
      }
    }

    function trouble(error) {
      if (error.name === "AbortError") return;
      if (error.status === 422 && error.errors.some((fault) => fault.pointer === "model")) {
        model.closest(".field").fault("Model names are small letters, digits, dots and dashes.");
        return;
      }
      // while the service is away the jobs that were seen stay
      if (!place.querySelector("table") || error.status) fill(place, problemNotice(error, { again }));
    }

    const filtered = () => {
      cursors = [""];
      again();
    };
    status.addEventListener("change", filtered);
    model.addEventListener("input", () => {
      clearTimeout(typing);
      typing = setTimeout(filtered, TYPING_MILLISECONDS);
    });
    const open = (event) => {
      event.preventDefault();
      if (number.value) location.hash = `#/training/jobs/${number.value}`;
    };
    fill(
      main,
      trainingNav("#/training/jobs"),
      el(
        "div",
        { class: "page-head" },
        el("h1", {}, "Training jobs"),
        el("div", { class: "actions" }, el("a", { class: "button primary", href: "#/training/new" }, "New job")),
      ),
      el(
        "div",
        { class: "filters" },
        field("State", status),
        field("Model", model),
        el(
          "form",
          { class: "row go-to", on: { submit: open } },
          field("Job number", number),
          el("button", { type: "submit" }, "Open"),
        ),
      ),
      place,
    );
    poll(look, FRESH_MILLISECONDS, signal, trouble);
  },
};

function noJobs() {
  return empty(
    "No training job yet",
    "A job trains a model on a data set by a recipe, and everything about it can be watched here.",
    el("a", { class: "button primary", href: "#/training/new" }, "Start one"),
    el("a", { class: "button", href: "#/training/datasets" }, "Upload a data set"),
  );
}

function table(jobs) {
  const heads = ["Job", "Model", "State", "Images", "Loss", "Best", "Data set", "Begun"];
  return el(
    "div",
    { class: "table-wrap", tabindex: "0", role: "region", "aria-label": "Jobs" },
    el(
      "table",
      { class: "jobs" },
      el("thead", {}, el("tr", {}, heads.map((text) => el("th", { scope: "col" }, text)))),
      el("tbody", {}, jobs.map(row)),
    ),
  );
}

function row(job) {
  const { progress } = job;
  const bar = progressBar(`Progress of job ${job.id}`);
  bar.set(progress.images_done, progress.total_images);
  return el(
    "tr",
    {},
    el(
      "th",
      { scope: "row" },
      el("a", { href: `#/training/jobs/${job.id}`, "data-focus-key": `job-${job.id}` }, `#${job.id}`),
    ),
    el("td", {}, el("span", { class: "cell-name clamp" }, name(job.model))),
    el("td", {}, badge(job.status)),
    el(
      "td",
      { class: FINISHED.includes(job.status) ? "progress-cell is-over" : "progress-cell" },
      bar,
      el(
        "span",
        { class: "small soft nowrap" },
        `${short(progress.images_done)} of ${short(progress.total_images)}${
          progress.eta_seconds ? ` · ${duration(progress.eta_seconds)} left` : ""
        }`,
      ),
    ),
    el("td", {}, figure(progress.loss)),
    el("td", { class: "nowrap" }, job.best ? el("span", { title: job.best.metric }, figure(job.best.value)) : "–"),
    el(
      "td",
      {},
      el("span", { class: "cell-name clamp", title: job.dataset }, job.dataset === null ? "–" : name(job.dataset)),
    ),
    el("td", { class: "nowrap soft" }, job.started_at ? ago(job.started_at) : "not yet"),
  );
}
