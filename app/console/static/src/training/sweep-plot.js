/** The plot of a sweep: each job's result over the values of one field. */

import { chart } from "../charts/chart.js";
import { field, options, select } from "../components/fields.js";
import { el, fill } from "../core/dom.js";
import { fromJson, isNumeric, toJson } from "../core/json.js";

/** Writes a value of a field. */
export const textOf = (value) => (typeof value === "string" ? value : toJson(value));

/** Makes the plot with `show(sweep)` and `metric()`, the chosen metric. onMetric: called when the user changes it. */
export function sweepPlot(onMetric) {
  const metric = select("metric", []);
  const across = select("across", []);
  const plot = chart("Result by value");
  const choices = el("div", { class: "row" }, field("Across", across), field("Metric", metric));
  const node = el("section", { class: "card stack", "aria-label": "Plot" }, choices, plot);
  let sweep = null;

  function draw() {
    const by = across.value;
    const judged = sweep.rows.some((row) => row.best);
    const values = valuesOf(sweep.rows, by);
    const ticks = values.map((value, at) => [at, textOf(value)]);
    plot.show(seriesOf(sweep, by, values, judged), { ticks, domain: [-0.4, values.length - 0.6] });
    plot.querySelector("figcaption").textContent = `${judged ? sweep.metric : "loss"} by ${by}`;
  }

  across.addEventListener("change", draw);
  metric.addEventListener("change", onMetric);
  node.metric = () => metric.value;
  node.show = (its) => {
    sweep = its;
    offer(metric, sweep.metrics, sweep.metric);
    offer(across, [...sweep.fields, "seed"], across.value || sweep.fields[0] || "seed");
    metric.disabled = !sweep.metrics.length;
    draw();
  };
  return node;
}

function offer(control, values, chosen) {
  if ([...control.options].map((one) => one.value).join() !== values.join()) fill(control, options(values));
  if (chosen) control.value = chosen;
}

const fieldOf = (row, by) => (by === "seed" ? row.seed : row.values[by]);

/** Returns the different values of a field: numbers by size, others in the order of the jobs. */
function valuesOf(rows, by) {
  const values = [...new Set(rows.map((row) => toJson(fieldOf(row, by))))].map((text) => fromJson(text));
  return values.every(isNumeric) ? values.sort((one, other) => (one < other ? -1 : 1)) : values;
}

/**
 * Returns a series for the jobs that differ only in the field.
 * When a value has several seeds, the series has points and no line.
 */
function seriesOf(sweep, by, values, judged) {
  const places = new Map(values.map((value, at) => [toJson(value), at]));
  const others = sweep.fields.filter((one) => one !== by);
  const points = sweep.rows.map((row) => ({
    line: others.map((one) => `${one} ${textOf(row.values[one])}`).join(", "),
    x: places.get(toJson(fieldOf(row, by))),
    y: judged ? row.best?.value ?? null : row.loss,
    label: `job ${row.job_id}`,
  }));
  const lines = Map.groupBy(points.filter((one) => one.y !== null), (one) => one.line);
  return [...lines].map(([name, its]) => ({
    name,
    points: its.sort((one, other) => one.x - other.x),
    line: new Set(its.map((one) => one.x)).size === its.length,
  }));
}
