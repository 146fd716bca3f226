/** What an early verdict on a training found. */

import { el } from "../core/dom.js";
import { figure, whole } from "../core/format.js";
import { notice } from "./states.js";

const fails = (verdict) => verdict.findings.some((one) => one.severity === "failure");

const adviceOf = (verdict) => verdict.findings.map((one) => one.advice);

/** Makes a mark for a verdict with findings; null for others. The tooltip has the advice. */
export function verdictBadge(verdict) {
  if (!verdict?.findings.length) return null;
  const [kind, text] = fails(verdict) ? ["failed", "fails the check"] : ["", "has warnings"];
  return el("span", { class: `badge ${kind}`.trim(), title: adviceOf(verdict).join("\n") }, text);
}

/** Makes a notice with the advice; null for a verdict without findings. */
export function verdictNotice(verdict) {
  if (!verdict?.findings.length) return null;
  const title = `${fails(verdict) ? "This training fails" : "Warnings"} after ${whole(verdict.images_seen)} images`;
  return notice(fails(verdict) ? "problem" : "", title, adviceOf(verdict).map((advice) => el("p", {}, advice)));
}

/** Says which distance a running training is expected to end with, or returns null. */
export function expectedEnd(verdict) {
  if (!verdict?.forecast) return null;
  const { distance, low, high, doubled } = verdict.forecast;
  const [end, least, most, twice] = [distance, low, high, doubled].map((value) => figure(value, 2));
  return `${end} (${least} to ${most}); twice the images would bring ${twice}`;
}

/** Returns the failures that a user should know of before drawing with a version, or null. */
export function cautionOf({ verdict }) {
  const faults = (verdict?.findings || []).filter((one) => one.severity === "failure");
  return faults.map((one) => `${one.advice}.`).join(" ") || null;
}
