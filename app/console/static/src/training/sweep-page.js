/** One sweep: its jobs as a table to be sorted, its groups, and a plot of what the values do. */

import { chart } from "../charts/chart.js";
import { get, put } from "../core/api.js";
import { el, fill, name } from "../core/dom.js";
import { figure, short } from "../core/format.js";
import { poll } from "../core/poll.js";
import { confirmed } from "../components/dialog.js";
import { field, select } from "../components/fields.js";
import { loading, problemNotice } from "../components/states.js";
import { badge } from "../components/status.js";
import { trainingNav } from "../components/sub-nav.js";

const FRESH_MILLISECONDS = 4000;
const UNFINISHED = ["queued", "running", "cancelling"];

export const sweepPage = {
  title: ({ id }) => `Sweep ${id}`,
  render(main, { params, signal }) {
    const address = `/v1/sweeps/${encodeURIComponent(params.id)}`;
    const place = el("div", { class: "stack" }, loading("Loading the sweep"));
    const trouble = el("div", {});
    const heading = el("h1", {}, `Sweep ${params.id}`);
    const cancel = el(
      "button",
      { type: "button", class: "danger", hidden: true, on: { click: cancelAll } },
      "Cancel its jobs",
    );
    fill(
      main,
      trainingNav("#/training/sweeps"),
      el("div", { class: "page-head" }, heading, el("div", { class: "actions" }, cancel)),
      trouble,
      place,
    );
    const metric = select("metric", []);
    const across = select("across", []);
    const plot = chart("Result by value", { x: {}, y: {} });
    const plotPart = el(
      "section",
      { class: "card stack", "aria-label": "Plot" },
      el("div", { class: "row" }, field("Across", across), field("Metric", metric)),
      plot,
    );
    const tablePlace = el("div", {});
    const groupPlace = el("div", {});
    let sort = { by: "job", order: "ascending" };
    let sweep = null;

    async function look() {
      sweep = await get(address, { query: { metric: metric.value }, signal });
      fill(trouble);
      show();
    }

    function show() {
      fill(heading, `Sweep ${sweep.id} · `, name(sweep.name));
      cancel.hidden = !UNFINISHED.some((status) => sweep.jobs[status]);
      options(metric, sweep.metrics, sweep.metric);
      options(across, [...sweep.fields, "seed"], across.value || sweep.fields[0] || "seed");
      metric.disabled = !sweep.metrics.length;
      if (!plotPart.isConnected) {
        fill(
          place,
          plotPart,
          el("section", { class: "card stack", "aria-label": "Jobs" }, el("h2", {}, "Jobs"), tablePlace),
          groupPlace,
        );
      }
      drawPlot();
      const focused = tablePlace.contains(document.activeElement) ? document.activeElement.dataset.focusKey : null;
      fill(tablePlace, table());
      if (focused) tablePlace.querySelector(`[data-focus-key="${CSS.escape(focused)}"]`)?.focus();
      fill(groupPlace, groups());
    }

    function drawPlot() {
      const by = across.value;
      const of = (row) => (by === "seed" ? row.seed : row.values[by]);
      const values = [...new Set(sweep.rows.map((row) => JSON.stringify(of(row))))].map((text) => JSON.parse(text));
      const numeric = values.every((value) => typeof value === "number");
      values.sort((one, other) => (numeric ? one - other : 0));
      const places = new Map(values.map((value, at) => [JSON.stringify(value), at]));
      const judged = sweep.rows.some((row) => row.best);
      const figureOf = (row) => (judged ? (row.best?.value ?? null) : row.loss);
      // jobs that differ in nothing else are a line; their seeds are points at the same place
      const others = sweep.fields.filter((one) => one !== by);
      const lines = new Map();
      for (const row of sweep.rows) {
        if (figureOf(row) === null) continue;
        const key = others.map((one) => `${one} ${textOf(row.values[one])}`).join(", ");
        lines.set(key, [...(lines.get(key) || []), {
          x: places.get(JSON.stringify(of(row))),
          y: figureOf(row),
          label: `job ${row.job_id}`,
        }]);
      }
      const series = [...lines].map(([key, points]) => ({
        name: key,
        points: points.sort((one, other) => one.x - other.x),
        line: new Set(points.map((one) => one.x)).size === points.length,
      }));
      plot.show(series, { ticks: values.map((value, at) => [at, textOf(value)]), domain: [-0.4, values.length - 0.6] });
      plot.querySelector("figcaption").textContent = `${judged ? sweep.metric : "loss"} by ${by}`;
    }

    function table() {
      const columns = [
        ["job", "Job"],
        ["status", "State"],
        ...sweep.fields.map((one) => [one, one]),
        ["seed", "Seed"],
        ["loss", "Loss"],
        ["best", sweep.metric || "Best"],
      ];
      return el(
        "div",
        { class: "table-wrap", tabindex: "0", role: "region", "aria-label": "Jobs of the sweep" },
        el(
          "table",
          {},
          el("thead", {}, el("tr", {}, columns.map(head))),
          el(
            "tbody",
            {},
            sortedRows().map((row) =>
              el(
                "tr",
                {},
                el(
                  "th",
                  { scope: "row" },
                  el("a", { href: `#/training/jobs/${row.job_id}` }, `#${row.job_id}`),
                  " ",
                  el("span", { class: "soft" }, row.model),
                ),
                el(
                  "td",
                  {},
                  badge(row.status),
                  el(
                    "span",
                    { class: "small soft nowrap" },
                    ` ${short(row.images_done)} of ${short(row.total_images)}`,
                  ),
                ),
                sweep.fields.map((one) => el("td", {}, textOf(row.values[one]))),
                el("td", {}, String(row.seed)),
                el("td", {}, figure(row.loss)),
                el("td", {}, row.best ? `${figure(row.best.value)} (version ${row.best.version})` : "–"),
              )
            ),
          ),
        ),
      );
    }

    /** Rows without a figure come last either way. */
    function sortedRows() {
      const of = (row) =>
        ({ job: row.job_id, status: row.status, seed: row.seed, loss: row.loss, best: row.best?.value ?? null })[
          sort.by
        ] ?? row.values[sort.by] ?? null;
      const turned = sort.order === "ascending" ? 1 : -1;
      const known = sweep.rows.filter((row) => of(row) !== null);
      return [
        ...known.sort((one, other) => turned * compared(of(one), of(other))),
        ...sweep.rows.filter((row) => of(row) === null),
      ];
    }

    function head([by, text]) {
      const sorted = sort.by === by ? sort.order : null;
      const mark = sorted === "ascending" ? " ↑" : sorted === "descending" ? " ↓" : "";
      const turn = () => {
        sort = { by, order: sorted === "ascending" ? "descending" : "ascending" };
        show();
      };
      return el(
        "th",
        { scope: "col", "aria-sort": sorted },
        el("button", { type: "button", class: "sort", "data-focus-key": by, on: { click: turn } }, text + mark),
      );
    }

    function groups() {
      if (!sweep.groups.some((group) => group.job_ids.length > 1)) return null;
      const spread = (
        one,
      ) => (one ? `${figure(one.mean)}${one.sd === null ? "" : ` ± ${figure(one.sd)}`} (${one.count})` : "–");
      return el(
        "section",
        { class: "card stack", "aria-label": "Over the seeds" },
        el("h2", {}, "Over the seeds"),
        el(
          "div",
          { class: "table-wrap", tabindex: "0", role: "region", "aria-label": "Groups" },
          el(
            "table",
            {},
            el(
              "thead",
              {},
              el(
                "tr",
                {},
                [...sweep.fields, "Loss", sweep.metric || "Best"].map((text) => el("th", { scope: "col" }, text)),
              ),
            ),
            el(
              "tbody",
              {},
              sweep.groups.map((group) =>
                el(
                  "tr",
                  {},
                  sweep.fields.map((one) => el("td", {}, textOf(group.values[one]))),
                  el("td", {}, spread(group.loss)),
                  el("td", {}, spread(group.best)),
                )
              ),
            ),
          ),
        ),
      );
    }

    async function cancelAll() {
      if (
        !(await confirmed(
          "Cancel the jobs that have not finished?",
          "Those that run are asked to store a checkpoint first, and are killed if they do not stop in time.",
          "Cancel them",
          { danger: true },
        ))
      ) return;
      try {
        await put("POST", `${address}/cancel`, undefined, { signal });
        await look();
      } catch (error) {
        failed(error);
      }
    }

    function failed(error) {
      if (error.name === "AbortError") return;
      fill(trouble, problemNotice(error, { again: () => look().catch(failed) }));
      if (!sweep) fill(place);
    }

    metric.addEventListener("change", () => look().catch(failed));
    across.addEventListener("change", drawPlot);
    poll(look, FRESH_MILLISECONDS, signal, failed);
  },
};

/** Numbers by size, before all else by its text. */
function compared(one, other) {
  const numbers = [one, other].map((value) => typeof value === "number");
  if (numbers[0] && numbers[1]) return one - other;
  return numbers[0] === numbers[1] ? textOf(one).localeCompare(textOf(other)) : numbers[0] ? -1 : 1;
}

const textOf = (value) => (typeof value === "string" ? value : JSON.stringify(value));

function options(control, values, chosen) {
  if ([...control.options].map((one) => one.value).join() !== values.join()) {
    fill(
      control,
      values.map((one) => el("option", { value: one }, one)),
    );
  }
  if (chosen) control.value = chosen;
}
