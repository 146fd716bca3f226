/** A job's checkpoints with their figures, and their promotion. */

import { get } from "../core/api.js";
import { el, fill } from "../core/dom.js";
import { bytes, figure, whole } from "../core/format.js";
import { promote } from "../models/promotion.js";

/** {node, look(job)} */
export function checkpointsPart(address, job, signal) {
  const place = el("div", {});
  const said = el("div", {});
  const node = el(
    "section",
    { class: "card stack", "aria-label": "Checkpoints" },
    el("h2", {}, "Checkpoints"),
    said,
    place,
  );
  let production = null;

  async function look() {
    const [answer, figures] = await Promise.all([
      get(`${address}/checkpoints`, { signal }),
      get(`${address}/evaluations`, { signal }),
    ]).catch(() => [null, null]);
    if (!answer) return; // the stream says when the service is away
    // before the first checkpoint there is no model
    const model = answer.checkpoints.length
      ? await get(`/v1/models/${encodeURIComponent(job.model)}`, { query: { limit: 1 }, signal }).catch(() => null)
      : null;
    production = model?.aliases.production?.version ?? null;
    const every = Math.min(job.configuration.recipe.training.checkpoint_every_images, job.total_images);
    fill(
      place,
      answer.checkpoints.length
        ? table(answer.checkpoints, figures.evaluations)
        : el("p", { class: "soft" }, `The first one is stored after ${whole(every)} images.`),
    );
  }

  function table(checkpoints, figures) {
    const metrics = [...new Set(figures.map((one) => one.metric))];
    const protocols = new Map(figures.map((one) => [`${one.metric}: ${one.protocol_string}`, true]));
    return el(
      "div",
      { class: "stack" },
      el(
        "div",
        { class: "table-wrap", tabindex: "0", role: "region", "aria-label": "Table of checkpoints" },
        el(
          "table",
          {},
          el(
            "thead",
            {},
            el(
              "tr",
              {},
              ["Version", "Images", ...metrics, "Size", "Kept", ""].map((text) =>
                el("th", { scope: "col" }, text || el("span", { class: "visually-hidden" }, "Actions"))
              ),
            ),
          ),
          el("tbody", {}, checkpoints.map((one) => row(one, metrics))),
        ),
      ),
      protocols.size > 0 &&
        el(
          "details",
          { class: "more small" },
          el("summary", {}, "How the figures were measured"),
          el("ul", { class: "protocols" }, [...protocols.keys()].map((text) => el("li", {}, el("code", {}, text)))),
        ),
    );
  }

  function row(one, metrics) {
    const served = one.version === production;
    return el(
      "tr",
      {},
      el(
        "th",
        { scope: "row" },
        el(
          "span",
          { class: "row" },
          String(one.version),
          one.best && el("span", { class: "tag is-accent" }, "best"),
          served && el("span", { class: "tag" }, "production"),
        ),
      ),
      el("td", {}, whole(one.images_seen)),
      metrics.map((metric) => el("td", {}, metric in one.metrics ? figure(one.metrics[metric]) : "–")),
      el("td", { class: "nowrap" }, bytes(one.size_bytes)),
      el(
        "td",
        { class: "soft" },
        [one.weights_kept && "weights", one.state_kept && "state"].filter(Boolean).join(", ") || "no longer",
      ),
      el(
        "td",
        {},
        one.weights_kept &&
          el(
            "div",
            { class: "actions end" },
            !served &&
              el("button", {
                type: "button",
                class: "compact",
                "aria-label": `Promote version ${one.version}`,
                on: { click: () => promoteIt(one.version) },
              }, "Promote"),
            el("a", {
              class: "button compact",
              href: `#/generate?model=${encodeURIComponent(served ? job.model : one.reference)}`,
              "aria-label": `Generate from version ${one.version}`,
            }, "Generate"),
          ),
      ),
    );
  }

  async function promoteIt(version) {
    if (!(await promote(job.model, version, production, said, signal))) return;
    production = version;
    await look();
  }
  said.addEventListener("moved", look);
  return { node, look };
}
