/** Labelled fields, each with a place for what is wrong with it. */

import { el, freshId } from "../core/dom.js";

/**
 * A field around a control. pointer: of the request's member that it fills; hint: what helps.
 * Returns the element with `control`, `pointer` and `fault(text)`.
 */
export function field(label, control, { pointer = null, hint = null, wide = false } = {}) {
  control.id ||= freshId("field");
  const hintLine = el("span", { class: "hint", id: freshId("hint") }, hint || "");
  const faultLine = el("span", { class: "fault", id: freshId("fault") });
  hintLine.hidden = !hint;
  faultLine.hidden = true;
  const node = el(
    "div",
    { class: wide ? "field wide" : "field" },
    el("label", { for: control.id }, label),
    control,
    hintLine,
    faultLine,
  );
  const describe = () => {
    const ids = [hintLine, faultLine].filter((line) => !line.hidden).map((line) => line.id);
    if (ids.length) control.setAttribute("aria-describedby", ids.join(" "));
    else control.removeAttribute("aria-describedby");
  };
  node.control = control;
  node.pointer = pointer;
  node.fault = (text) => {
    faultLine.textContent = text || "";
    faultLine.hidden = !text;
    if (text) control.setAttribute("aria-invalid", "true");
    else control.removeAttribute("aria-invalid");
    describe();
  };
  node.hint = (text) => {
    hintLine.textContent = text || "";
    hintLine.hidden = !text;
    describe();
  };
  control.addEventListener("input", () => node.fault(null));
  describe();
  return node;
}

/** A group of controls under one legend, with the same interface; the first control stands for all. */
export function group(legend, content, { pointer = null, hint = null } = {}) {
  const faultLine = el("span", { class: "fault", id: freshId("fault") });
  faultLine.hidden = true;
  const node = el(
    "fieldset",
    { class: "field" },
    el("legend", {}, legend),
    hint && el("span", { class: "hint" }, hint),
    content,
    faultLine,
  );
  node.pointer = pointer;
  node.fault = (text) => {
    faultLine.textContent = text || "";
    faultLine.hidden = !text;
    if (text) node.setAttribute("aria-describedby", faultLine.id);
    else node.removeAttribute("aria-describedby");
  };
  Object.defineProperty(node, "control", { get: () => node.querySelector("input, select, button") });
  node.addEventListener("input", () => node.fault(null));
  return node;
}

/** A text or number field's control. */
export function input(name, properties = {}) {
  return el("input", { name, type: "text", autocomplete: "off", spellcheck: "false", ...properties });
}

/** A choice. options: [value, text]. */
export function select(name, options, properties = {}) {
  return el("select", { name, ...properties }, options.map(([value, text]) => el("option", { value }, text)));
}

/** Put each fault of a problem next to its field, and the focus on the first; returns those that have none. */
export function showFaults(fields, problem) {
  for (const one of fields) one.fault(null);
  const leftOver = [];
  let first = null;
  for (const fault of problem.errors) {
    const found = fields.find((one) =>
      one.pointer !== null && (fault.pointer === one.pointer || fault.pointer.startsWith(`${one.pointer}/`))
    );
    if (!found) {
      leftOver.push(fault);
      continue;
    }
    found.fault(fault.detail);
    found.closest("details")?.setAttribute("open", "");
    first ??= found;
  }
  first?.control?.focus();
  return leftOver;
}
