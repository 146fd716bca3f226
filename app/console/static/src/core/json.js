/** JSON with integers of any size. Seeds go up to 2^63 - 1, which a JavaScript number cannot hold. */

const MARK = "\u0000integer:";

/** Returns JSON text in which BigInts are written as numbers. */
export function toJson(value) {
  const text = JSON.stringify(value, (_, part) => (typeof part === "bigint" ? MARK + part : part));
  return text.replace(/"\\u0000integer:(-?\d+)"/g, "$1");
}

/** Returns the value of JSON text. Text that is not JSON is returned unchanged. */
export function jsonOrText(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
