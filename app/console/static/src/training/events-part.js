/** What has happened to a job, newest first. */

import { el, fill, name } from "../core/dom.js";
import { clock, figure, moment, whole } from "../core/format.js";

const MOST_SHOWN = 400;

/** {node, add(event), clear()} */
export function eventsPart() {
  const list = el("ol", { class: "events", tabindex: "0", "aria-label": "Events, newest first" });
  const node = el("section", { class: "card", "aria-label": "Events" }, el("h2", {}, "Events"), list);
  return {
    node,
    add: ({ kind, data }) => {
      list.prepend(
        el(
          "li",
          {},
          el("time", { class: "soft small", datetime: data.at, title: moment(data.at) }, clock(data.at)),
          el("span", {}, wordsOf(kind, data)),
        ),
      );
      if (list.children.length > MOST_SHOWN) list.lastChild.remove();
    },
    clear: () => fill(list),
  };
}

function wordsOf(kind, data) {
  const after = `after ${whole(data.images_seen || 0)} images`;
  switch (kind) {
    case "status":
      return [
        data.status,
        data.worker ? [" by ", name(data.worker)] : "",
        data.reason ? `: ${data.reason}` : "",
        data.failure ? `: ${data.failure.detail}` : "",
      ].flat();
    case "checkpoint":
      return [`checkpoint ${after}: version ${data.version}`];
    case "samples":
      return [`samples ${after}`];
    case "evaluation":
      return [`${data.metric} ${figure(data.value)} ${after}`];
    case "best":
      return [`the best so far ${after}, by ${data.metric}`];
    case "frontier":
      return [`${data.metric} ${figure(data.value)} by ${data.sampler} in ${data.steps} steps`];
    case "evaluation_failed":
    case "frontier_failed":
    case "samples_failed":
      return [`${kind.replace("_", " ")} ${after}: ${data.detail}`];
    case "not_promoted":
      return [`nothing was promoted: ${data.reason}`];
    case "promoted":
      return [`version ${data.version} was promoted`];
    case "note":
      return [data.detail];
    case "lease_lapsed":
      return ["the worker was lost; the job goes back to the queue"];
    default:
      return [kind.replaceAll("_", " ")];
  }
}
