/** The scales of a chart: from values to positions, and the values at which ticks stand. */

/**
 * Returns a linear or logarithmic scale of the values onto [from, to] as {place(value), ticks}.
 *
 * domain: Its ends, when they should not follow the values. count: About how many ticks it has.
 * zero: It starts at zero. whole: It has ticks at integers only. round: It ends at ticks.
 */
export function scale(
  values,
  from,
  to,
  { log = false, count = 5, zero = false, whole = false, round = false, domain = null } = {},
) {
  const usable = (domain || values).filter((value) => Number.isFinite(value) && (!log || value > 0));
  let low = usable.length ? Math.min(...usable) : 0;
  let high = usable.length ? Math.max(...usable) : 1;
  if (zero) low = Math.min(0, low);
  if (log) return logarithmic(low || 1, high || 1, from, to);
  if (low === high) {
    const room = Math.abs(low) * 0.1 || 1;
    low -= zero && low === 0 ? 0 : room;
    high += room;
  }
  const step = Math.max(niceStep((high - low) / count), whole ? 1 : 0);
  if (round) [low, high] = [Math.floor(low / step + 1e-9) * step, Math.ceil(high / step - 1e-9) * step];
  const ticks = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step * 1e-9; tick += step) {
    ticks.push(Number(tick.toPrecision(12)));
  }
  return { place: (value) => from + ((value - low) / (high - low)) * (to - from), ticks };
}

function logarithmic(low, high, from, to) {
  let first = Math.log10(low);
  let last = Math.log10(high);
  const room = (last - first) * 0.05 || 0.1;
  first -= room;
  last += room;
  const factors = factorsOf(last - first);
  const ticks = [];
  for (let power = Math.floor(first); power <= last; power += 1) {
    for (const factor of factors) {
      const tick = factor * 10 ** power;
      const at = Math.log10(tick);
      if (at >= first && at <= last) ticks.push(Number(tick.toPrecision(12)));
    }
  }
  if (ticks.length < 3) {
    const [least, most] = [10 ** first, 10 ** last];
    const step = niceStep((most - least) / 4);
    ticks.length = 0;
    for (let tick = Math.ceil(least / step) * step; tick <= most; tick += step) {
      ticks.push(Number(tick.toPrecision(12)));
    }
  }
  return { place: (value) => from + ((Math.log10(value) - first) / (last - first)) * (to - from), ticks };
}

/** Returns the ticks in each power of ten: the fewer powers, the more ticks. */
function factorsOf(powers) {
  if (powers < 1) return [1, 2, 3, 5, 7];
  return powers < 2.2 ? [1, 2, 5] : [1];
}

/** Rounds a step up to 1, 2 or 5 times a power of ten. */
function niceStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * ([1, 2, 5].find((factor) => rough / power <= factor) ?? 10);
}
