/** A job's curves: loss, learning rate, speed, and a chart for each metric that was evaluated. */

import { chart } from "../charts/chart.js";
import { get } from "../core/api.js";
import { el, fill } from "../core/dom.js";

const POINTS = 240;

/** Returns {node, look(), lookAtFigures()}. They read the curves, and the evaluations, again. */
export function curvesPart(address, signal) {
  const x = { label: "images" };
  const loss = chart("Training loss", { x, y: { label: "loss" } });
  const speed = chart("Images per second", { x, y: { label: "images/s", zero: true }, height: 170 });
  const rate = chart("Learning rate", { x, y: { label: "rate", zero: true }, height: 170 });
  const figures = el("div", { class: "grid-2" });
  const waiting = el("p", { class: "soft" }, "The first figures come some seconds after the job starts.");
  const title = el("summary", {}, "Speed and learning rate");
  const rest = el("details", { class: "more" }, title, el("div", { class: "grid-2" }, speed, rate));
  const drawn = el("div", { class: "stack", hidden: true }, el("div", { class: "grid-2" }, loss, figures), rest);
  const node = el("section", { class: "card", "aria-label": "Curves" }, el("h2", {}, "Curves"), waiting, drawn);
  const charts = new Map();

  async function look() {
    const answer = await get(`${address}/metrics`, { query: { points: POINTS }, signal }).catch(() => null);
    if (!answer) return; // the job's stream of events tells the user when the service is away
    waiting.hidden = answer.images_seen.length > 0;
    drawn.hidden = !waiting.hidden;
    const show = (node, member) => {
      const points = answer.images_seen.map((seen, at) => ({ x: seen, y: answer[member][at] }));
      node.show([{ name: member, points }]);
    };
    show(loss, "loss");
    show(speed, "images_per_second");
    show(rate, "learning_rate");
  }

  async function lookAtFigures() {
    const answer = await get(`${address}/evaluations`, { signal }).catch(() => null);
    if (!answer) return;
    for (const [metric, found] of Map.groupBy(answer.evaluations, (one) => one.metric)) {
      if (!charts.has(metric)) {
        charts.set(metric, chart(metric, { x }));
        fill(figures, [...charts.values()]);
      }
      // figures can be compared only where their protocol is equal: each protocol is a line
      const lines = Map.groupBy(found, (one) => one.protocol_digest);
      charts.get(metric).show([...lines.values()].map((its) => ({
        name: its[0].protocol_string,
        points: its.map((one) => ({ x: one.images_seen, y: one.value, label: `version ${one.version}` })),
      })));
    }
  }
  return { node, look, lookAtFigures };
}
