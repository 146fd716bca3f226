/** JSON with whole numbers of any size: seeds go up to 2^63 - 1, which a JavaScript number does not hold. */

const MARK = "\u0000integer:";

/** JSON text; BigInts are written as numbers. */
export function toJson(value, indent) {
  const text = JSON.stringify(value, (_, part) => (typeof part === "bigint" ? MARK + part : part), indent);
  return text.replace(/"\\u0000integer:(-?\d+)"/g, "$1");
}
