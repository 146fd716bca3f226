/** The field of a sampling setting, made from its schema. */

import { field, group, input, select } from "../components/fields.js";
import { el } from "../core/dom.js";

const OWN = "the model's own";

const EVERYWHERE = [0, 1e6]; // an interval that holds every noise level
const READ = { boolean: (text) => text === "true", string: (text) => text };

/**
 * Makes the field. It has `setting`, its name; `showOwn(own)`, which shows the value that an empty field stands for;
 * `isGiven()`, whether it is filled; and `given(own)`, its value for a request.
 */
export function settingField({ name: setting, label, schema }) {
  const more = { pointer: `/${setting}` };
  if (schema.type === "array") return pairField(setting, label, schema, more);
  const names = schema.type === "boolean" ? ["false", "true"] : schema.enum;
  const control = names
    ? select(setting, [["", OWN], ...names], { title: schema.description })
    : textInput(setting, schema);
  const node = field(label, control, more);
  node.showOwn = (own) => {
    const value = own?.[setting] ?? "none";
    if (names) control.options[0].textContent = own ? `${value} (own)` : OWN;
    else control.placeholder = own ? String(value) : OWN;
  };
  node.isGiven = () => control.value !== "";
  node.given = () => (READ[schema.type] || Number)(control.value.trim());
  return Object.assign(node, { setting });
}

function textInput(setting, schema) {
  const title = schema.description;
  if (schema.type === "string") return input(setting, { title });
  const [min, max] = [schema.minimum ?? schema.exclusiveMinimum, schema.maximum ?? schema.exclusiveMaximum];
  const step = schema.type === "integer" ? 1 : "any";
  return input(setting, { title, type: "number", inputmode: "decimal", min, max, step });
}

/** Makes a field with a low and a high end. An empty end is the model's own. */
function pairField(setting, label, { description: title }, more) {
  const end = (which, called) =>
    input(`${setting}_${which}`, { title, type: "number", step: "any", min: 0, "aria-label": called });
  const ends = [end("low", "Low end"), end("high", "High end")];
  const node = group(label, el("div", { class: "row pair" }, ends), more);
  node.classList.add("wide");
  node.showOwn = (own) => {
    const texts = own?.[setting] || ["low", "high"];
    for (const at of ends.keys()) ends[at].placeholder = String(texts[at]);
  };
  node.isGiven = () => ends.some((one) => one.value !== "");
  node.given = (own) => ends.map((one, at) => Number(one.value || (own?.[setting] || EVERYWHERE)[at]));
  return Object.assign(node, { setting });
}
