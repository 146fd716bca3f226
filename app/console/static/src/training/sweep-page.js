/** One sweep: a plot of its results, a table of its jobs that can be sorted, and the means over the seeds. */

import { button } from "../components/button.js";
import { deleted } from "../components/deletion.js";
import { confirmed } from "../components/dialog.js";
import { loading, showProblem } from "../components/states.js";
import { badge } from "../components/status.js";
import { trainingNav } from "../components/sub-nav.js";
import { scrolledTable } from "../components/table.js";
import { get, put } from "../core/api.js";
import { el, fill, name, refill } from "../core/dom.js";
import { duration, figure, short } from "../core/format.js";
import { isNumeric } from "../core/json.js";
import { poll } from "../core/poll.js";
import { sweepPlot, textOf } from "./sweep-plot.js";

const FRESH_MILLISECONDS = 4000;
const UNFINISHED = ["queued", "running", "cancelling"];
const MARKS = { ascending: " ↑", descending: " ↓" };

export const sweepPage = {
  title: ({ id }) => `Sweep ${id}`,
  render(main, { params, signal }) {
    const address = `/v1/sweeps/${encodeURIComponent(params.id)}`;
    const place = el("div", { class: "stack" }, loading("Loading the sweep"));
    const trouble = el("div", {});
    const heading = el("h1", {}, `Sweep ${params.id}`);
    const cancel = button("Cancel its jobs", cancelAll, { class: "danger", hidden: true });
    const remove = button("Delete", removeIt, { class: "danger", hidden: true });
    const head = el("div", { class: "page-head" }, heading, el("div", { class: "actions" }, cancel, remove));
    fill(main, trainingNav("#/training/sweeps"), head, trouble, place);
    const plot = sweepPlot(again);
    const expected = el("p", { class: "soft small" });
    const jobs = el("div", {});
    const groups = el("div", {});
    let sort = { by: "job", order: "ascending" };
    let sweep = null;

    async function look() {
      sweep = await get(address, { query: { metric: plot.metric() }, signal });
      fill(trouble);
      fill(heading, `Sweep ${sweep.id} · `, name(sweep.name));
      remove.hidden = UNFINISHED.some((status) => sweep.jobs[status]);
      cancel.hidden = !remove.hidden;
      if (!plot.isConnected) {
        fill(
          place,
          plot,
          el("section", { class: "card stack", "aria-label": "Jobs" }, el("h2", {}, "Jobs"), expected, jobs),
          groups,
        );
      }
      const { expected_seconds: seconds, rows } = sweep;
      fill(expected, seconds && `Expected to take ${duration(seconds)}, one after another (${rows.length})`);
      plot.show(sweep);
      showJobs();
      fill(groups, groupTable(sweep));
    }

    function showJobs() {
      refill(jobs, protocolNote(sweep.rows), jobTable(sweep, sort, sortBy));
    }

    function sortBy(next) {
      sort = next;
      showJobs();
    }

    async function cancelAll() {
      const title = "Cancel the unfinished jobs?";
      const text = "Running jobs are asked to store a checkpoint first. A job that does not stop in time is killed.";
      if (!(await confirmed(title, text, "Cancel them", { danger: true }))) return;
      try {
        await put("POST", `${address}/cancel`, undefined, { signal });
        await look();
      } catch (error) {
        failed(error);
      }
    }

    async function removeIt() {
      try {
        if (await deleted(address, `sweep ${sweep.id} and its jobs`, signal)) location.hash = "#/training/sweeps";
      } catch (error) {
        failed(error);
      }
    }

    function again() {
      look().catch(failed);
    }

    function failed(error) {
      showProblem(trouble, error, { again });
      if (!sweep) fill(place);
    }

    poll(look, FRESH_MILLISECONDS, signal, failed);
  },
};

function jobTable(sweep, sort, sortBy) {
  const columns = [
    ["job", "Job"],
    ["status", "State"],
    ...sweep.fields.map((one) => [one, one]),
    ["seed", "Seed"],
    ["loss", "Loss"],
    ["best", sweep.metric || "Best"],
  ];
  const heads = columns.map(([by, text]) => sortHead(by, text, sort, sortBy));
  return scrolledTable(
    "Jobs of the sweep",
    heads,
    sortedRows(sweep.rows, sort).map((row) => jobRow(row, sweep.fields)),
  );
}

function sortHead(by, text, sort, sortBy) {
  const sorted = sort.by === by ? sort.order : null;
  const turn = () => sortBy({ by, order: sorted === "ascending" ? "descending" : "ascending" });
  const turner = button(text + (MARKS[sorted] || ""), turn, { class: "sort", "data-focus-key": by });
  return el("th", { scope: "col", "aria-sort": sorted }, turner);
}

function jobRow(row, fields) {
  const images = ` ${short(row.images_done)} of ${short(row.total_images)}`;
  const link = el("a", { href: `#/training/jobs/${row.job_id}` }, `#${row.job_id}`);
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, link, " ", el("span", { class: "soft" }, row.model)),
    el("td", {}, badge(row.status), el("span", { class: "small soft nowrap" }, images)),
    fields.map((one) => el("td", {}, textOf(row.values[one]))),
    el("td", {}, String(row.seed)),
    el("td", {}, figure(row.loss)),
    el(
      "td",
      {},
      row.best ? `${figure(row.best.value)} (version ${row.best.version})` : "–",
      row.other_protocol ? protocolMark() : null,
    ),
  );
}

/** Sorts the rows. Rows without a value come last in both orders. */
function sortedRows(rows, { by, order }) {
  const of = (row) => {
    const own = { job: row.job_id, status: row.status, seed: row.seed, loss: row.loss, best: row.best?.value };
    return own[by] ?? row.values[by] ?? null;
  };
  const turned = order === "ascending" ? 1 : -1;
  const known = rows.filter((row) => of(row) !== null);
  const rest = rows.filter((row) => of(row) === null);
  return [...known.sort((one, other) => turned * compared(of(one), of(other))), ...rest];
}

/** Compares numbers by size and other values by their text. Numbers come first. */
function compared(one, other) {
  const [first, second] = [one, other].map(isNumeric);
  if (first && second) return one < other ? -1 : Number(one > other);
  if (first !== second) return first ? -1 : 1;
  return textOf(one).localeCompare(textOf(other));
}

function groupTable({ groups, fields, metric }) {
  if (!groups.some((group) => group.job_ids.length > 1)) return null;
  const row = (group) =>
    el(
      "tr",
      {},
      fields.map((one) => el("td", {}, textOf(group.values[one]))),
      el("td", {}, spread(group.loss)),
      el("td", {}, spread(group.best), group.other_protocol ? protocolMark() : null),
    );
  const title = "Over the seeds";
  const table = scrolledTable("Groups", [...fields, "Loss", metric || "Best"], groups.map(row));
  return el("section", { class: "card stack", "aria-label": title }, el("h2", {}, title), table);
}

const protocolMark = () => el("span", { class: "small soft nowrap" }, " other protocol");

/** Says what the marks mean, if the table has any. */
function protocolNote(rows) {
  const marked = rows.filter((row) => row.other_protocol).length;
  const text =
    "Figures with the mark “other protocol” were measured in another way than most: do not compare them with " +
    "the others.";
  return marked ? el("p", { class: "soft" }, text) : null;
}

/** Writes mean ± standard deviation (count). */
function spread(one) {
  if (!one) return "–";
  return `${figure(one.mean)}${one.sd === null ? "" : ` ± ${figure(one.sd)}`} (${one.count})`;
}
