/** The chart of a version's frontier: distance against network evaluations, with the points that a quality chooses. */

import { chart } from "../charts/chart.js";
import { figure, whole } from "../core/format.js";

/** Makes the chart. Each pair of sampler and spacing is a line. */
export function frontierChart(version, frontier) {
  const node = chart(`${frontier.metric}, version ${version}, guidance ${frontier.guidance}`, {
    x: { label: "network evaluations an image", format: String, log: true },
    y: { label: "distance, less is better", format: figure, log: true },
    height: 290,
    note: `${whole(frontier.images)} images`,
  });
  const lines = Map.groupBy(frontier.points, (one) => withSpacing(one.sampler, one.spacing));
  node.show([...lines].map(([name, its]) => ({
    name,
    points: its.map(point).sort((one, other) => one.x - other.x),
  })));
  return node;
}

function point({ sampler, steps, spacing, network_evaluations: x, value: y, picked_by: qualities }) {
  return { x, y, label: withSpacing(`${sampler} ${steps} steps`, spacing), on: qualities.join(", ") || null };
}

/** Adds the spacing to a text, unless it is the usual one. */
function withSpacing(text, spacing) {
  return spacing === "trailing" ? text : `${text}, ${spacing}`;
}
