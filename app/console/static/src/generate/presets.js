/** The presets of the page Generate: what each one means for a version, from its measured frontier. */

import { figure } from "../core/format.js";

/** Values and names. The empty value leaves the settings to the model. */
export const PRESETS = [["", "Model's own"], ["fast", "Fast"], ["balanced", "Balanced"], ["best", "Best"]];

/** Returns what a preset means in words. version: as the service describes it. guidance: that of the request. */
export function meaningOf(preset, version, guidance) {
  const own = version.default_sampling;
  if (!preset) return own && `${own.sampler}, ${own.steps} steps, guidance ${own.guidance}.`;
  const frontier = nearest(version.frontiers, guidance);
  const point = frontier?.points.find((one) => one.picked_by.includes(preset));
  if (!point) return "Nobody has measured this version's samplers: the service takes its usual ones.";
  const { sampler, steps, network_evaluations: cost, value } = point;
  const measured = `distance ${figure(value, 3)}, measured at guidance ${frontier.guidance}`;
  return `${sampler}, ${steps} steps, ${cost} network evaluations an image: ${measured}.`;
}

/** Returns the frontier that the service chooses from: at the nearest guidance, on a tie that of more images. */
function nearest(frontiers, guidance) {
  const far = (one) => Math.abs(one.guidance - guidance);
  return [...frontiers].sort((one, other) => far(one) - far(other) || other.images - one.images)[0];
}
