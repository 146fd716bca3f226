/** A version's frontier: distance against network evaluations, a line a sampler, and the points that qualities pick. */

import { chart } from "../charts/chart.js";
import { figure, whole } from "../core/format.js";

/** The figure. */
export function frontierChart(version, frontier) {
  const node = chart(`${frontier.metric}, version ${version}, guidance ${frontier.guidance}`, {
    x: { label: "network evaluations an image", format: (value) => String(value), log: true },
    y: { label: "distance, less is better", format: figure, log: true },
    height: 290,
    note: `${whole(frontier.images)} images`,
  });
  const samplers = new Map();
  for (const point of frontier.points) {
    const label = `${point.sampler} ${point.steps} steps${point.spacing === "trailing" ? "" : `, ${point.spacing}`}`;
    const shown = { x: point.network_evaluations, y: point.value, label, on: point.picked_by.join(", ") || null };
    const key = point.spacing === "trailing" ? point.sampler : `${point.sampler}, ${point.spacing}`;
    samplers.set(key, [...(samplers.get(key) || []), shown]);
  }
  node.show(
    [...samplers].map(([sampler, points]) => ({ name: sampler, points: points.sort((one, other) => one.x - other.x) })),
  );
  return node;
}
