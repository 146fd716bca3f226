/** The list of sweeps. */

import { moreButton } from "../components/more.js";
import { empty, shown } from "../components/states.js";
import { badge } from "../components/status.js";
import { trainingNav } from "../components/sub-nav.js";
import { scrolledTable } from "../components/table.js";
import { get } from "../core/api.js";
import { el, fill, name } from "../core/dom.js";
import { moment } from "../core/format.js";

const NEW_SWEEP = { class: "button primary", href: "#/training/new?sweep=1" };

export const sweepsPage = {
  title: () => "Sweeps",
  render(main, { signal }) {
    const place = el("div", { class: "stack" });
    const actions = el("div", { class: "actions" }, el("a", NEW_SWEEP, "New sweep"));
    fill(
      main,
      trainingNav("#/training/sweeps"),
      el("div", { class: "page-head" }, el("h1", {}, "Sweeps"), actions),
      place,
    );
    shown(place, () => page(signal), "Loading sweeps");
  },
};

async function page(signal) {
  const answer = await get("/v1/sweeps", { signal });
  if (!answer.sweeps.length) {
    const text = "A sweep trains one job for each combination of values, and compares them in a table and a chart.";
    return empty("No sweep yet", text, el("a", NEW_SWEEP, "Start one"));
  }
  const list = scrolledTable("Sweeps", ["Sweep", "Varies", "Jobs", "Created"], answer.sweeps.map(row));
  let cursor = answer.next_before;
  async function add() {
    const next = await get("/v1/sweeps", { query: { before: cursor }, signal });
    list.querySelector("tbody").append(...next.sweeps.map(row));
    cursor = next.next_before;
    return cursor !== null;
  }
  return el("div", { class: "stack" }, list, cursor !== null && moreButton("Show older sweeps", add));
}

function row(sweep) {
  const link = { class: "cell-name", href: `#/training/sweeps/${sweep.id}` };
  const jobs = Object.entries(sweep.jobs).filter(([, count]) => count);
  const counts = jobs.map(([status, count]) => el("span", { class: "nowrap" }, `${count} `, badge(status)));
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, el("a", link, `#${sweep.id} `, name(sweep.name))),
    el("td", {}, sweep.fields.join(", ") || "seeds"),
    el("td", {}, el("span", { class: "row" }, counts)),
    el("td", { class: "nowrap soft" }, moment(sweep.created_at)),
  );
}
