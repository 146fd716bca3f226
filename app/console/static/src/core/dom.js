/** Builds elements from plain values. Text becomes text nodes, and nothing is ever parsed as HTML. */

const SVG = "http://www.w3.org/2000/svg";

/** Properties that are set on the element itself, because the attribute of that name is only the first value. */
const LIVE = ["value", "checked", "selected", "disabled"];

/** Makes an element. properties: attributes by name, and `on` with event listeners. False and null are left out. */
export function el(tag, properties = {}, ...children) {
  return filled(document.createElement(tag), properties, children);
}

/** Makes an SVG element. */
export function svg(tag, properties = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), properties, children);
}

/** Wraps text of any script, so that its direction does not change the text around it. */
export function name(text) {
  return el("bdi", {}, String(text));
}

/** Replaces the children of an element. */
export function fill(parent, ...children) {
  parent.replaceChildren(...children.flat(Infinity).filter(isShown));
  return parent;
}

/** Like `fill`, but the focus stays on the element with the same `data-focus-key`. */
export function refill(parent, ...children) {
  const focused = document.activeElement;
  const key = parent.contains(focused) ? focused.getAttribute("data-focus-key") : null;
  fill(parent, ...children);
  if (key) parent.querySelector(`[data-focus-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}

function filled(node, properties, children) {
  for (const [key, value] of Object.entries(properties)) {
    if (!isShown(value)) continue;
    if (key === "on") listen(node, value);
    else if (LIVE.includes(key)) node[key] = value;
    else node.setAttribute(key, value === true ? "" : String(value));
  }
  node.append(...children.flat(Infinity).filter(isShown));
  return node;
}

function listen(node, listeners) {
  for (const [event, listener] of Object.entries(listeners)) node.addEventListener(event, listener);
}

function isShown(value) {
  return value !== null && value !== undefined && value !== false;
}

let lastId = 0;

/** Returns an id that no other element has. */
export function freshId(prefix) {
  lastId += 1;
  return `${prefix}-${lastId}`;
}
