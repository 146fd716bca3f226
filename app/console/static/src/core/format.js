/** Writes numbers, sizes and times for people. */

const WHOLE = new Intl.NumberFormat("en");
const MOST_DIGITS = 12;
const MOMENT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const HOUR = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
const CLOCK = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

/** 1,234,567 */
export const whole = (number) => WHOLE.format(number);

/** A number and its thing: "1 image", "2,000 images", "3 classes". @param {number | bigint} number @param {string} thing */
export const several = (number, thing) =>
  `${whole(number)} ${thing}${Number(number) === 1 ? "" : thing.endsWith("s") ? "es" : "s"}`;

/** 1.2M. digits: how many, two of which may stand before the point. */
export function short(number, digits = 4) {
  return new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: digits - 2 }).format(number);
}

/** 0.1235. digits: how many significant digits are kept. */
export function figure(number, digits = 4) {
  if (number === null || number === undefined) return "–";
  const size = Math.abs(number);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return number.toExponential(digits - 2);
  return String(Number(number.toPrecision(digits)));
}

/**
 * Returns the texts of an axis' ticks, all with as many digits as the values need. format: (value, digits) to text.
 * A text that still repeats an earlier one becomes empty.
 */
export function tickTexts(ticks, format) {
  let digits = 4;
  while (digits < MOST_DIGITS && ticks.some((tick) => Number(tick.toPrecision(digits)) !== tick)) digits += 1;
  let texts = ticks.map((tick) => format(tick, digits));
  while (digits < MOST_DIGITS && new Set(texts).size < texts.length) {
    digits += 1;
    texts = ticks.map((tick) => format(tick, digits));
  }
  return texts.map((text, at) => (texts.indexOf(text) === at ? text : ""));
}

/** 12.3 MB */
export function bytes(count) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (count >= 1000 && unit < units.length - 1) {
    count /= 1000;
    unit += 1;
  }
  return `${unit ? count.toFixed(1) : count} ${units[unit]}`;
}

/** 2 h 5 min */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 90) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.round(hours / 24)} days`;
}

/** Date and time in the user's time zone. */
export const moment = (text) => (text ? MOMENT.format(new Date(text)) : "–");

/** The time of day when it is today, else date and time. */
export function clock(text) {
  const then = new Date(text);
  return then.toDateString() === new Date().toDateString() ? CLOCK.format(then) : moment(text);
}

/** The time of day in so many seconds, with the date when that is not today. */
export function until(seconds) {
  const then = new Date(Date.now() + 1000 * seconds);
  return then.toDateString() === new Date().toDateString() ? HOUR.format(then) : MOMENT.format(then);
}

/** 5 min ago */
export function ago(text) {
  if (!text) return "–";
  const seconds = (Date.now() - new Date(text).getTime()) / 1000;
  return seconds < 5 ? "just now" : `${duration(seconds)} ago`;
}

/** The first digits of a digest, enough to recognise it. */
export const shortDigest = (digest) => digest.replace("sha256:", "").slice(0, 12);
