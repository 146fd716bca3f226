/** What the tables of versions share. */

import { button } from "../components/button.js";
import { el } from "../core/dom.js";
import { figure } from "../core/format.js";

export const versionPath = (model, version) =>
  `/v1/models/${encodeURIComponent(model)}/versions/${encodeURIComponent(version)}`;

/** Returns the classes that a version draws: all but those of which it has seen no picture. */
export const drawnClasses = ({ class_names, undrawn }) => class_names.filter((one) => !undrawn.includes(one));

/** Makes a part of a page. label: its name for screen readers. */
export function section(label, title, ...content) {
  return el("section", { class: "card stack", "aria-label": label }, el("h2", {}, title), content);
}

/** Makes the cells of a version's figures, one for each metric. */
export function figureCells(metrics, figures) {
  return metrics.map((metric) => el("td", {}, metric in figures ? figure(figures[metric]) : "–"));
}

/** Makes the marks of a version. marks: [text, whether it stands out], or false. */
export function tags(...marks) {
  return marks.filter(Boolean).map(([text, out]) => el("span", { class: out ? "tag is-accent" : "tag" }, text));
}

export function promoteButton(version, promote) {
  return button("Promote", promote, { class: "compact", "aria-label": `Promote version ${version}` });
}

/** Makes the link to the page Generate. reference: NAME, or NAME@VERSION. what: what the link is read as. */
export function generateLink(reference, what) {
  const href = `#/generate?model=${encodeURIComponent(reference)}`;
  return el("a", { class: "button compact", href, "aria-label": `Generate from ${what}` }, "Generate");
}

/** Makes the list of the protocols by which figures were measured. */
export function protocolList(lines, properties = {}, ...more) {
  const list = el("ul", { class: "protocols" }, lines.map((text) => el("li", {}, el("code", {}, text))));
  const title = "How the figures were measured";
  return el("details", { class: "more small", ...properties }, el("summary", {}, title), list, more);
}
