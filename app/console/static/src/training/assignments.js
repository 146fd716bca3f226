/** Reads fields of a recipe from lines of text: `dotted.name = value`. */

import { jsonOrText } from "../core/json.js";

/** A line that cannot be read. field: the field of the form that holds it. */
export class LineFault extends Error {
  constructor(field, text) {
    super(text);
    this.field = field;
  }
}

/** Returns {name: value} of the lines. A value is JSON, or else the text itself. */
export function assignmentsOf(text) {
  return Object.fromEntries(lines(text, "overrides").map(([name, value]) => [name, jsonOrText(value)]));
}

/** Returns {name: [values]} of lines with values between commas. A list as a value is written as JSON. */
export function gridOf(text) {
  const valuesOf = (value) => {
    const whole = jsonOrText(`[${value}]`);
    return Array.isArray(whole) ? whole : value.split(",").map((part) => jsonOrText(part.trim()));
  };
  return Object.fromEntries(lines(text, "grid").map(([name, value]) => [name, valuesOf(value)]));
}

function lines(text, field) {
  return text
    .split("\n")
    .map((line) => line.trim())
    .filter(Boolean)
    .map((line) => {
      const equals = line.indexOf("=");
      const [name, value] = [line.slice(0, equals).trim(), line.slice(equals + 1).trim()];
      if (equals < 1 || !value) throw new LineFault(field, `Write "name = value" in place of "${line}".`);
      return [name, value];
    });
}
