/** A job's checkpoints with their figures, and their promotion. */

import { stackedTable } from "../components/table.js";
import { get } from "../core/api.js";
import { el, fill } from "../core/dom.js";
import { bytes, whole } from "../core/format.js";
import { promote } from "../models/promotion.js";
import { meaningOfMetric } from "../models/metric-words.js";
import { figureCells, generateLink, promoteButton, protocolList, tags } from "../models/versions.js";
import { dueAfter } from "./due.js";

/** Returns {node, look()}. look: reads the checkpoints again. */
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
    if (!answer) return; // the job's stream of events tells the user when the service is away
    const { checkpoints } = answer;
    if (checkpoints.length) {
      production = await productionVersion();
      fill(place, table(checkpoints, figures.evaluations));
    } else {
      const first = dueAfter(job, job.configuration.recipe.training.checkpoint_every_images);
      fill(place, el("p", { class: "soft" }, `The first checkpoint is stored after ${first}.`));
    }
  }

  async function productionVersion() {
    const path = `/v1/models/${encodeURIComponent(job.model)}`;
    const model = await get(path, { query: { limit: 1 }, signal }).catch(() => null);
    return model?.aliases.production?.version ?? null;
  }

  function table(checkpoints, figures) {
    const metrics = [...new Set(figures.map((one) => one.metric))];
    const protocols = new Set(figures.map((one) => `${one.metric}: ${one.protocol_string}`));
    const heads = ["Version", "Images", ...metrics, "Size", "Kept", ""];
    const rows = checkpoints.map((one) => row(one, metrics));
    return el(
      "div",
      { class: "stack" },
      stackedTable("Table of checkpoints", heads, rows),
      metrics.map((one) => el("p", { class: "soft small" }, `${one}: ${meaningOfMetric(one)}`)),
      protocols.size > 0 && protocolList([...protocols]),
    );
  }

  function row(one, metrics) {
    const served = one.version === production;
    const marks = tags(one.best && ["best", true], served && ["production"]);
    const kept = [one.weights_kept && "weights", one.state_kept && "state"].filter(Boolean).join(", ");
    const actions = one.weights_kept && [
      !served && promoteButton(one.version, () => promoteIt(one.version)),
      generateLink(served ? job.model : one.reference, `version ${one.version}`),
    ];
    return el(
      "tr",
      {},
      el("th", { scope: "row" }, el("span", { class: "row" }, String(one.version), marks)),
      el("td", {}, whole(one.images_seen)),
      figureCells(metrics, one.metrics),
      el("td", { class: "nowrap" }, bytes(one.size_bytes)),
      el("td", { class: "soft" }, kept || "no longer"),
      el("td", {}, actions && el("div", { class: "actions end" }, actions)),
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
