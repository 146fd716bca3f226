/** The events of a job, newest first. */

import { expectedEnd } from "../components/verdict.js";
import { el, fill, name } from "../core/dom.js";
import { clock, figure, moment, whole } from "../core/format.js";

const MOST_SHOWN = 400;

/** Returns {node, add(event), clear()}. */
export function eventsPart() {
  const list = el("ol", { class: "events", tabindex: "0", "aria-label": "Events, newest first" });
  const node = el("section", { class: "card", "aria-label": "Events" }, el("h2", {}, "Events"), list);
  return {
    node,
    add: ({ kind, data }) => {
      const time = el("time", { class: "soft small", datetime: data.at, title: moment(data.at) }, clock(data.at));
      list.prepend(el("li", {}, time, el("span", {}, wordsOf(kind, data))));
      if (list.children.length > MOST_SHOWN) list.lastElementChild.remove();
    },
    clear: () => fill(list),
  };
}

const after = (data) => `after ${whole(data.images_seen || 0)} images`;

const failed = (what) => (data) => `${what} failed ${after(data)}: ${data.detail}`;

/** What each kind of event is called. */
const WORDS = {
  status: ({ status, worker, reason, failure }) => [
    status,
    worker && [" by ", name(worker)],
    reason && `: ${reason}`,
    failure && `: ${failure.detail}`,
  ],
  checkpoint: (data) => `checkpoint ${after(data)}: version ${data.version}`,
  samples: (data) => `samples ${after(data)}`,
  evaluation: (data) => `${data.metric} ${figure(data.value)} ${after(data)}`,
  best: (data) => `the best so far by ${data.metric} ${after(data)}`,
  frontier: (data) => `${data.metric} ${figure(data.value)} by ${data.sampler} in ${data.steps} steps`,
  evaluation_failed: failed("evaluation"),
  frontier_failed: failed("frontier"),
  samples_failed: failed("samples"),
  verdict_failed: failed("early verdict"),
  verdict: (data) => {
    const advice = data.findings.map((one) => one.advice).join("; ");
    const end = data.forecast ? `; expected distance ${expectedEnd(data)}` : "";
    return `early verdict ${after(data)}: ${advice || "nothing wrong found"}${end}`;
  },
  not_promoted: (data) => `nothing was promoted: ${data.reason}`,
  promoted: (data) => `version ${data.version} was promoted`,
  note: (data) => data.detail,
  lease_lapsed: () => "the worker was lost; the job goes back to the queue",
};

function wordsOf(kind, data) {
  return WORDS[kind]?.(data) ?? kind.replaceAll("_", " ");
}
