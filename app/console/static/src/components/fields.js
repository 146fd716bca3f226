/** Fields with a label, each with a place that says what is wrong with it. */

import { el, freshId } from "../core/dom.js";

/**
 * Makes a field around a control. pointer: the member of the request that it fills. hint: what helps to fill it.
 * The element has `control`, `pointer`, `fault(text)`, which shows what is wrong, and `hint(text)`.
 */
export function field(label, control, { pointer = null, hint = null, wide = false } = {}) {
  control.id ||= freshId("field");
  const hintLine = line("hint");
  const faultLine = line("fault");
  const lines = [hintLine, faultLine];
  const node = el(
    "div",
    { class: wide ? "field wide" : "field" },
    el("label", { for: control.id }, label),
    control,
    lines,
  );
  const say = (one, text) => {
    showLine(one, text);
    describe(control, lines);
  };
  node.control = control;
  node.pointer = pointer;
  node.hint = (text) => say(hintLine, text);
  node.fault = (text) => {
    if (text) control.setAttribute("aria-invalid", "true");
    else control.removeAttribute("aria-invalid");
    say(faultLine, text);
  };
  control.addEventListener("input", () => node.fault(null));
  node.hint(hint);
  return node;
}

/** Makes a group of controls with one legend. It is used like a field, and its first control stands for all. */
export function group(legend, content, { pointer = null } = {}) {
  const lines = [line("hint"), line("fault")];
  const node = el("fieldset", { class: "field" }, el("legend", {}, legend), content, lines);
  const say = (at, text) => {
    showLine(lines[at], text);
    describe(node, lines);
  };
  node.pointer = pointer;
  node.hint = (text) => say(0, text);
  node.fault = (text) => say(1, text);
  Object.defineProperty(node, "control", { get: () => node.querySelector("input, select, button") });
  node.addEventListener("input", () => node.fault(null));
  return node;
}

const line = (kind) => el("span", { class: kind, id: freshId(kind), hidden: true });

function showLine(node, text) {
  node.textContent = text || "";
  node.hidden = !text;
}

function describe(node, lines) {
  const ids = lines.filter((one) => !one.hidden).map((one) => one.id);
  if (ids.length) node.setAttribute("aria-describedby", ids.join(" "));
  else node.removeAttribute("aria-describedby");
}

/** Makes a group of radio buttons, of which the first is chosen. values: [value, text] each. */
export function radios(legend, name, values, options = {}) {
  const chip = ([value, text], at) =>
    el("label", { class: "chip" }, el("input", { type: "radio", name, value, checked: at === 0 }), text);
  return group(legend, el("div", { class: "chips" }, values.map(chip)), options);
}

/** Makes the control of a text or number field. */
export function input(name, properties = {}) {
  return el("input", { name, type: "text", autocomplete: "off", spellcheck: "false", ...properties });
}

/** Makes a control for several lines of text. */
export function textarea(name, properties = {}) {
  return el("textarea", { name, spellcheck: "false", ...properties });
}

/** Makes a choice. values: each one an option, or [value, text]. */
export function select(name, values, properties = {}) {
  return el("select", { name, ...properties }, options(values));
}

/** Makes the options of a choice. */
export function options(values) {
  return values.map((one) => {
    const [value, text] = Array.isArray(one) ? one : [one, one];
    return el("option", { value }, text);
  });
}

/** Returns {member: value} of the fields of a form that are filled. read: turns a text into a value. */
export function filledIn(form, members, read = (text) => text) {
  const texts = members.map((member) => [member, form.elements.namedItem(member).value.trim()]);
  return Object.fromEntries(texts.filter(([, text]) => text).map(([member, text]) => [member, read(text)]));
}

/** Removes the faults of all fields. */
export function clearFaults(fields) {
  for (const one of fields) one.fault(null);
}

/** Shows a fault at its field, opens what hides the field, and moves the focus there. */
export function refuse(one, text) {
  one.fault(text);
  for (let hiding = one.closest("details"); hiding; hiding = hiding.parentElement.closest("details")) {
    hiding.open = true;
  }
  one.control?.focus();
}

/** Shows each fault of a problem at its field and moves the focus to the first. Returns the faults without a field. */
export function showFaults(fields, problem) {
  clearFaults(fields);
  const leftOver = [];
  let first = null;
  for (const fault of problem.errors) {
    const found = fields.find((one) => isAt(fault, one));
    if (!found) {
      leftOver.push(fault);
      continue;
    }
    refuse(found, fault.detail);
    first ??= found;
  }
  first?.control?.focus();
  return leftOver;
}

function isAt(fault, { pointer }) {
  return pointer !== null && (fault.pointer === pointer || fault.pointer.startsWith(`${pointer}/`));
}
