/** The page Service: engine, queue and workers, from the same metrics that Prometheus reads. */

import { chart } from "../charts/chart.js";
import { loading, showProblem } from "../components/states.js";
import { table } from "../components/table.js";
import { send } from "../core/api.js";
import { el, fill } from "../core/dom.js";
import { duration, figure, whole } from "../core/format.js";
import { poll } from "../core/poll.js";
import { ApiProblem } from "../core/problem.js";
import { gauge, keepReading, means, newest, rates, timeSpan } from "./readings.js";

const FRESH_MILLISECONDS = 2000;

export const servicePage = {
  title: () => "Service",
  render(main, { signal }) {
    const trouble = el("div", {}, loading("Reading the metrics"));
    const lights = el("dl", { class: "lights" });
    const charts = chartsOf();
    const tables = el("div", { class: "counts" });
    const grid = el("div", { class: "grid-2" }, charts.nodes.map((one) => el("div", { class: "card" }, one)));
    const content = el("div", { class: "stack", hidden: true }, lights, grid, tables);
    const source = el("a", { href: "/metrics" }, "/metrics");
    const lead = el("p", { class: "lead" }, "Read every two seconds from ", source, " while this page is open.");
    const storage = el("a", { class: "button", href: "#/service/storage" }, "Storage");
    const actions = el("div", { class: "actions" }, storage);
    fill(main, el("div", { class: "page-head" }, el("h1", {}, "Service"), lead, actions), trouble, content);

    async function look() {
      const [ready, text] = await Promise.all([
        isReady(signal),
        send("/metrics", { signal }).then((answer) => answer.text()),
      ]);
      keepReading(text);
      fill(trouble);
      content.hidden = false;
      fill(lights, lightsOf(newest(), ready).map(light));
      charts.show();
      fill(tables, countsOf(newest()));
    }

    /** While the service is away, what was read stays. */
    function failed(error) {
      if (error instanceof ApiProblem || content.hidden) {
        showProblem(trouble, error, { again: () => look().catch(failed) });
      }
    }
    poll(look, FRESH_MILLISECONDS, signal, failed);
  },
};

/** Returns the answer of the readiness probe; null while the service is not ready. */
async function isReady(signal) {
  try {
    const answer = await send("/readyz", { signal });
    return await answer.json();
  } catch (error) {
    if (error instanceof ApiProblem && error.status === 503) return null;
    throw error;
  }
}

function chartsOf() {
  const overTime = (title, y) =>
    chart(title, {
      x: { label: "seconds ago", format: (value) => whole(Math.abs(Math.round(value))) },
      y: { zero: true, ...y },
      height: 190,
    });
  const queue = overTime("Rows in the engine", { label: "rows", whole: true });
  const step = overTime("Time of a step", { label: "ms" });
  const occupancy = overTime("Batch occupancy", { label: "% of the limit" });
  const speed = overTime("Row steps", { label: "a second" });
  const show = () => {
    const axis = { domain: timeSpan() };
    const rows = [
      { name: "running", points: gauge("darkroom_rows_running") },
      { name: "waiting", points: gauge("darkroom_rows_waiting") },
    ];
    queue.show(rows, axis);
    step.show([{ name: "mean", points: stepTimes() }], axis);
    occupancy.show([{ name: "mean", points: means("darkroom_batch_occupancy_ratio", 100) }], axis);
    speed.show([{ name: "speed", points: rates("darkroom_row_steps_total") }], axis);
  };
  return { nodes: [queue, step, occupancy, speed], show };
}

const stepTimes = () => means("darkroom_step_duration_seconds", 1000);

function light([term, value, note, kind]) {
  const words = note && el("span", { class: "soft small" }, note);
  return el("div", { class: kind ? `light ${kind}` : "light" }, el("dt", {}, term), el("dd", {}, value, words));
}

/** Returns [term, value, note, kind] of each light. */
function lightsOf(now, ready) {
  const hasJobs = now.has("darkroom_job_statistics_age_seconds");
  const last = stepTimes().at(-1);
  const [waiting, running] = [now.of("darkroom_rows_waiting"), now.of("darkroom_rows_running")];
  return [
    ["Service", ...readiness(ready)],
    ["Workers alive", ...(hasJobs ? workersOf(now) : ["–", "not read yet"])],
    ["Open requests", whole(now.of("darkroom_requests_open")), `${whole(waiting)} rows wait, ${whole(running)} run`],
    ["Step", last ? `${figure(last.y)} ms` : "–", last ? "mean of the last seconds" : "no steps lately"],
    ["Refusals", whole(now.of("darkroom_refusals_total")), "since the service started"],
    ["Versions in memory", whole(now.of("darkroom_resident_versions"))],
    ["Oldest waiting job", ...(hasJobs ? oldestJob(now) : ["–", "not read yet"])],
  ];
}

function readiness(ready) {
  if (!ready) return ["not ready", "no model is loaded and warm", "is-bad"];
  const count = ready.set_aside;
  return count
    ? ["ready", `${count} version(s) set aside: their load ended the service (see its log)`, "is-bad"]
    : ["ready", "a model is loaded and warm", "is-good"];
}

function workersOf(now) {
  const sum = (counts) => [...counts.values()].reduce((total, one) => total + one, 0);
  const workers = now.by("darkroom_workers_alive", "device");
  const alive = sum(workers);
  const faulty = sum(now.by("darkroom_workers_device_faults", "device"));
  const parts = [...workers].filter(([, count]) => count).map(([device, count]) => `${count} ${device}`);
  if (faulty) parts.push(`${faulty} without a working device`);
  return [whole(alive), parts.join(", ") || "jobs wait", !alive || faulty ? "is-bad" : ""];
}

function oldestJob(now) {
  const oldest = Math.max(0, ...now.by("darkroom_job_queue_oldest_age_seconds", "kind").values());
  return oldest ? [duration(oldest), "since it could start"] : ["–", "no job waits"];
}

function countsOf(now) {
  return [
    counts("Refused sampling requests", "Reason", now.by("darkroom_refusals_total", "reason"), "None was refused."),
    counts("Answers by status", "Status", now.by("darkroom_http_requests_total", "status"), "None yet."),
    counts("Unfinished jobs", "State", now.by("darkroom_jobs", "status"), "No job is waiting or running."),
    counts("Ended jobs", "State", now.by("darkroom_jobs_finished_total", "status"), "None yet."),
  ];
}

function counts(title, head, values, none) {
  const rows = [...values].filter(([, count]) => count).sort(([one], [other]) => one.localeCompare(other));
  const heads = [head, el("th", { scope: "col", class: "number" }, "Count")];
  const row = ([key, count]) => el("tr", {}, el("td", {}, key), el("td", { class: "number" }, whole(count)));
  const content = rows.length ? table(heads, rows.map(row)) : el("p", { class: "soft" }, none);
  return el("section", { class: "card", "aria-label": title }, el("h2", {}, title), content);
}
