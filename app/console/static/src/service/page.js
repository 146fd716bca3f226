/** The page Service: how the engine, the queue and the workers are, from the same metrics that Prometheus reads. */

import { chart } from "../charts/chart.js";
import { send } from "../core/api.js";
import { el, fill } from "../core/dom.js";
import { duration, figure, whole } from "../core/format.js";
import { poll } from "../core/poll.js";
import { ApiProblem } from "../core/problem.js";
import { loading, problemNotice } from "../components/states.js";
import { reading } from "./exposition.js";

const FRESH_MILLISECONDS = 2000;
const MOST_READINGS = 300;
const SHORTEST_SHOWN_SECONDS = 60;

/** Kept while the tab is open: [{at, metrics}]. */
const readings = [];

export const servicePage = {
  title: () => "Service",
  render(main, { signal }) {
    const trouble = el("div", {}, loading("Reading the metrics"));
    const lights = el("dl", { class: "lights" });
    const x = () => ({ label: "seconds ago", format: (value) => whole(Math.abs(Math.round(value))) });
    const charts = {
      queue: chart("Rows in the engine", { x: x(), y: { label: "rows", zero: true, whole: true }, height: 190 }),
      step: chart("Time of a step", { x: x(), y: { label: "ms", zero: true }, height: 190 }),
      occupancy: chart("Batch occupancy", { x: x(), y: { label: "% of the limit", zero: true }, height: 190 }),
      speed: chart("Row steps", { x: x(), y: { label: "a second", zero: true }, height: 190 }),
    };
    const tables = el("div", { class: "counts" });
    const content = el(
      "div",
      { class: "stack", hidden: true },
      lights,
      el("div", { class: "grid-2" }, Object.values(charts).map((one) => el("div", { class: "card" }, one))),
      tables,
    );
    fill(
      main,
      el(
        "div",
        { class: "page-head" },
        el("h1", {}, "Service"),
        el(
          "p",
          { class: "lead" },
          "Read every two seconds while this page is open, from ",
          el("a", { href: "/metrics" }, "/metrics"),
          ".",
        ),
      ),
      trouble,
      content,
    );

    async function look() {
      const [ready, text] = await Promise.all([
        isReady(signal),
        send("/metrics", { signal }).then((answer) => answer.text()),
      ]);
      readings.push({ at: Date.now(), metrics: reading(text) });
      readings.splice(0, readings.length - MOST_READINGS);
      fill(trouble);
      content.hidden = false;
      show(ready);
    }

    function show(ready) {
      const now = readings.at(-1).metrics;
      fill(
        lights,
        lightsOf(now, ready).map(([term, value, note, kind]) =>
          el(
            "div",
            { class: kind ? `light ${kind}` : "light" },
            el("dt", {}, term),
            el("dd", {}, value, note && el("span", { class: "soft small" }, note)),
          )
        ),
      );
      const gauge = (name, series) => ({ name, points: points((one) => one.of(series)) });
      const span = { domain: [Math.min(-SHORTEST_SHOWN_SECONDS, secondsAgo(readings[0].at)), 0] };
      charts.queue.show([gauge("running", "darkroom_rows_running"), gauge("waiting", "darkroom_rows_waiting")], span);
      charts.step.show([{ name: "mean", points: means("darkroom_step_duration_seconds", 1000) }], span);
      charts.occupancy.show([{ name: "mean", points: means("darkroom_batch_occupancy_ratio", 100) }], span);
      charts.speed.show([{ name: "speed", points: rates("darkroom_row_steps_total") }], span);
      fill(
        tables,
        counts("Refused sampling requests", "Reason", now.by("darkroom_refusals_total", "reason"), "None was refused."),
        counts("Answers by status", "Status", now.by("darkroom_http_requests_total", "status"), "None yet."),
        counts(
          "Jobs that are not finished",
          "State",
          now.by("darkroom_jobs", "status"),
          "No job is waiting or running.",
        ),
        counts("Jobs that have ended", "State", now.by("darkroom_jobs_finished_total", "status"), "None yet."),
      );
    }
    /** While the service is away, what was read stays. */
    function failed(error) {
      if (error instanceof ApiProblem || content.hidden) {
        fill(
          trouble,
          problemNotice(error, { again: () => look().catch(failed) }),
        );
      }
    }
    poll(look, FRESH_MILLISECONDS, signal, failed);
  },
};

async function isReady(signal) {
  try {
    await send("/readyz", { signal });
    return true;
  } catch (error) {
    if (error instanceof ApiProblem && error.status === 503) return false;
    throw error;
  }
}

function lightsOf(now, ready) {
  const workers = now.by("darkroom_workers_alive", "device");
  const alive = [...workers.values()].reduce((sum, one) => sum + one, 0);
  const faulty = [...now.by("darkroom_workers_device_faults", "device").values()].reduce((sum, one) => sum + one, 0);
  const hasJobs = now.has("darkroom_job_statistics_age_seconds");
  const refused = now.of("darkroom_refusals_total");
  const oldest = Math.max(0, ...now.by("darkroom_job_queue_oldest_age_seconds", "kind").values());
  const last = means("darkroom_step_duration_seconds", 1000).at(-1);
  return [
    [
      "Service",
      ready ? "ready" : "not ready",
      ready ? "a model is loaded and warm" : "no model is loaded and warm",
      ready ? "is-good" : "is-bad",
    ],
    [
      "Workers alive",
      hasJobs ? whole(alive) : "–",
      hasJobs
        ? [
          ...[...workers].filter(([, count]) => count).map(([device, count]) => `${count} ${device}`),
          ...(faulty ? [`${faulty} without a working device`] : []),
        ].join(", ") || "jobs wait"
        : "not read yet",
      hasJobs && (!alive || faulty) ? "is-bad" : "",
    ],
    [
      "Requests open",
      whole(now.of("darkroom_requests_open")),
      `${whole(now.of("darkroom_rows_waiting"))} rows wait, ${whole(now.of("darkroom_rows_running"))} run`,
    ],
    ["Step", last ? `${figure(last.y)} ms` : "–", last ? "mean of the last seconds" : "no steps lately"],
    ["Refusals", whole(refused), "since the service began"],
    ["Versions in memory", whole(now.of("darkroom_resident_versions")), ""],
    [
      "Oldest waiting job",
      oldest ? duration(oldest) : "–",
      hasJobs ? (oldest ? "since it could begin" : "none waits") : "not read yet",
    ],
  ];
}

const secondsAgo = (at) => (at - readings.at(-1).at) / 1000;

function points(value) {
  return readings.map((one) => ({ x: secondsAgo(one.at), y: value(one.metrics) }));
}

/** Of a histogram's mean between neighbouring readings, where anything was observed. */
function means(name, factor) {
  return between((before, after) => {
    const count = after.of(`${name}_count`) - before.of(`${name}_count`);
    return count > 0 ? (factor * (after.of(`${name}_sum`) - before.of(`${name}_sum`))) / count : null;
  });
}

/** Of a counter's growth in a second. A smaller count is a service that was started again. */
function rates(name) {
  return between((before, after, seconds) => Math.max(0, after.of(name) - before.of(name)) / seconds);
}

function between(value) {
  const found = [];
  for (let at = 1; at < readings.length; at += 1) {
    const [before, after] = [readings[at - 1], readings[at]];
    const y = value(before.metrics, after.metrics, (after.at - before.at) / 1000);
    if (y !== null) found.push({ x: secondsAgo(after.at), y });
  }
  return found;
}

function counts(title, head, values, none) {
  const rows = [...values].filter(([, count]) => count).sort(([one], [other]) =>
    String(one).localeCompare(String(other))
  );
  return el(
    "section",
    { class: "card", "aria-label": title },
    el("h2", {}, title),
    rows.length
      ? el(
        "table",
        {},
        el(
          "thead",
          {},
          el("tr", {}, el("th", { scope: "col" }, head), el("th", { scope: "col", class: "number" }, "How many")),
        ),
        el(
          "tbody",
          {},
          rows.map(([key, count]) => el("tr", {}, el("td", {}, key), el("td", { class: "number" }, whole(count)))),
        ),
      )
      : el("p", { class: "soft" }, none),
  );
}
