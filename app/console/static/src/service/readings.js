/** The metrics that the page Service has read, and what the charts show of them. */

import { reading } from "./exposition.js";

const MOST_READINGS = 300;
const SHORTEST_SHOWN_SECONDS = 60;

/** Kept while the tab is open: [{at, metrics}]. */
const readings = [];

/** Adds the text of /metrics as the newest reading. */
export function keepReading(text) {
  readings.push({ at: Date.now(), metrics: reading(text) });
  readings.splice(0, readings.length - MOST_READINGS);
}

/** Returns the newest metrics. */
export const newest = () => readings.at(-1).metrics;

/** Returns the ends of the time axis. */
export const timeSpan = () => [Math.min(-SHORTEST_SHOWN_SECONDS, secondsAgo(readings[0].at)), 0];

const secondsAgo = (at) => (at - readings.at(-1).at) / 1000;

/** Returns the values of a gauge. */
export function gauge(name) {
  return readings.map((one) => ({ x: secondsAgo(one.at), y: one.metrics.of(name) }));
}

/** Returns the means of a histogram between neighbouring readings, where it has new observations. */
export function means(name, factor) {
  return between((before, after) => {
    const count = after.of(`${name}_count`) - before.of(`${name}_count`);
    return count > 0 ? (factor * (after.of(`${name}_sum`) - before.of(`${name}_sum`))) / count : null;
  });
}

/** Returns the growth of a counter in a second. A counter that has become smaller means that the service restarted. */
export function rates(name) {
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
