/** Fields of a recipe as lines of text: `dotted.name = value`. */

/** A line that cannot be read. field: of the form. */
export class LineFault extends Error {
  constructor(field, text) {
    super(text);
    this.field = field;
  }
}

/** {name: value} of lines. A value is JSON, or else the text itself. */
export function assignmentsOf(text) {
  return Object.fromEntries(lines(text, "overrides").map(([name, value]) => [name, valueOf(value)]));
}

/** {name: [values]} of lines whose values are divided by commas; a list of lists is written as JSON. */
export function gridOf(text) {
  return Object.fromEntries(
    lines(text, "grid").map(([name, value]) => {
      const whole = valueOf(`[${value}]`);
      if (Array.isArray(whole)) return [name, whole];
      return [name, value.split(",").map((part) => valueOf(part.trim()))];
    }),
  );
}

function lines(text, field) {
  return text
    .split("\n")
    .map((line) => line.trim())
    .filter(Boolean)
    .map((line) => {
      const equals = line.indexOf("=");
      if (equals < 1 || !line.slice(equals + 1).trim()) throw new LineFault(field, `Write "name = value": ${line}`);
      return [line.slice(0, equals).trim(), line.slice(equals + 1).trim()];
    });
}

function valueOf(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
