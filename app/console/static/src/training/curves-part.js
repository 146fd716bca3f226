/** A job's curves: the loss, its learning rate and speed, and a chart for each metric that was evaluated. */

import { chart } from "../charts/chart.js";
import { get } from "../core/api.js";
import { el, fill } from "../core/dom.js";

const POINTS = 240;

/** {node, look(), lookAtFigures()} */
export function curvesPart(address, signal) {
  const x = { label: "images" };
  const loss = chart("Training loss", { x, y: { label: "loss" } });
  const speed = chart("Images per second", { x, y: { label: "images/s", zero: true }, height: 170 });
  const rate = chart("Learning rate", { x, y: { label: "rate", zero: true }, height: 170 });
  const figures = el("div", { class: "grid-2" });
  const waiting = el("p", { class: "soft" }, "The first figures come some seconds after the job has begun.");
  const rest = el(
    "details",
    { class: "more" },
    el("summary", {}, "Speed and learning rate"),
    el("div", { class: "grid-2" }, speed, rate),
  );
  const drawn = el("div", { class: "stack", hidden: true }, el("div", { class: "grid-2" }, loss, figures), rest);
  const node = el("section", { class: "card", "aria-label": "Curves" }, el("h2", {}, "Curves"), waiting, drawn);
  const charts = new Map();

  async function look() {
    const answer = await get(`${address}/metrics`, { query: { points: POINTS }, signal }).catch(() => null);
    if (!answer) return; // the stream says when the service is away
    waiting.hidden = answer.images_seen.length > 0;
    drawn.hidden = !waiting.hidden;
    const column = (
      member,
    ) => [{ name: member, points: answer.images_seen.map((seen, at) => ({ x: seen, y: answer[member][at] })) }];
    loss.show(column("loss"));
    speed.show(column("images_per_second"));
    rate.show(column("learning_rate"));
  }

  async function lookAtFigures() {
    const answer = await get(`${address}/evaluations`, { signal }).catch(() => null);
    if (!answer) return;
    const byMetric = grouped(answer.evaluations, (one) => one.metric);
    for (const [metric, found] of byMetric) {
      if (!charts.has(metric)) {
        charts.set(metric, chart(metric, { x, y: { label: "" } }));
        fill(figures, [...charts.values()]);
      }
      // figures compare where their protocol is equal
      const series = grouped(found, (one) => one.protocol_digest);
      charts.get(metric).show([...series.values()].map((list) => ({
        name: list[0].protocol_string,
        points: list.map((one) => ({ x: one.images_seen, y: one.value, label: `version ${one.version}` })),
      })));
    }
  }
  return { node, look, lookAtFigures };
}

function grouped(items, key) {
  const groups = new Map();
  for (const item of items) groups.set(key(item), [...(groups.get(key(item)) || []), item]);
  return groups;
}
