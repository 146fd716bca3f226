/** JSON with integers of any size. Seeds go up to 2^63 - 1, which a JavaScript number cannot hold. */

const MARK = "\u0000integer:";

/** Returns JSON text in which BigInts are written as numbers. space: as JSON.stringify takes it. */
export function toJson(value, space = 0) {
  const text = JSON.stringify(value, (_, part) => (typeof part === "bigint" ? MARK + part : part), space);
  return text.replace(/"\\u0000integer:(-?\d+)"/g, "$1");
}

/** Returns the number that a text stands for. An integer that a number would round is a BigInt. */
export function numberOf(text) {
  const number = Number(text);
  return Number.isInteger(number) && !Number.isSafeInteger(number) && /^-?\d+$/.test(text) ? BigInt(text) : number;
}

/** Tells whether a value is a number or a BigInt. */
export const isNumeric = (value) => typeof value === "number" || typeof value === "bigint";

/** Returns the value of JSON text, with numbers as `numberOf` reads them, where the browser tells their digits. */
export function fromJson(text) {
  return JSON.parse(text, /** @type {(key: string, value: any, context?: {source: string}) => any} */ (exact));
}

function exact(_key, value, context) {
  return typeof value === "number" && context?.source ? numberOf(context.source) : value;
}

/** Returns the value of JSON text. Text that is not JSON is returned unchanged. */
export function jsonOrText(text) {
  try {
    return fromJson(text);
  } catch {
    return text;
  }
}
