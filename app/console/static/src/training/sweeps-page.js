/** The list of sweeps. */

import { get } from "../core/api.js";
import { el, fill, name } from "../core/dom.js";
import { moment } from "../core/format.js";
import { moreButton } from "../components/more.js";
import { empty, shown } from "../components/states.js";
import { badge } from "../components/status.js";
import { trainingNav } from "../components/sub-nav.js";

export const sweepsPage = {
  title: () => "Sweeps",
  render(main, { signal }) {
    const place = el("div", { class: "stack" });
    fill(
      main,
      trainingNav("#/training/sweeps"),
      el(
        "div",
        { class: "page-head" },
        el("h1", {}, "Sweeps"),
        el(
          "div",
          { class: "actions" },
          el("a", { class: "button primary", href: "#/training/new?sweep=1" }, "New sweep"),
        ),
      ),
      place,
    );
    shown(place, () => page(signal), "Loading sweeps");
  },
};

async function page(signal) {
  const answer = await get("/v1/sweeps", { signal });
  if (!answer.sweeps.length) {
    return empty(
      "No sweep yet",
      "A sweep trains a job for each combination of values, and compares them in a table and a plot.",
      el("a", { class: "button primary", href: "#/training/new?sweep=1" }, "Start one"),
    );
  }
  const body = el("tbody", {}, answer.sweeps.map(row));
  let cursor = answer.next_before;
  async function add() {
    const next = await get("/v1/sweeps", { query: { before: cursor }, signal });
    body.append(...next.sweeps.map(row));
    cursor = next.next_before;
    return cursor !== null;
  }
  return el(
    "div",
    { class: "stack" },
    el(
      "div",
      { class: "table-wrap", tabindex: "0", role: "region", "aria-label": "Sweeps" },
      el(
        "table",
        {},
        el(
          "thead",
          {},
          el("tr", {}, ["Sweep", "Varies", "Jobs", "Created"].map((text) => el("th", { scope: "col" }, text))),
        ),
        body,
      ),
    ),
    cursor !== null && moreButton("Show older ones", add),
  );
}

function row(sweep) {
  return el(
    "tr",
    {},
    el(
      "th",
      { scope: "row" },
      el("a", { class: "cell-name", href: `#/training/sweeps/${sweep.id}` }, `#${sweep.id} `, name(sweep.name)),
    ),
    el("td", {}, sweep.fields.join(", ") || "seeds"),
    el(
      "td",
      {},
      el(
        "span",
        { class: "row" },
        Object.entries(sweep.jobs).filter(([, count]) => count).map(([status, count]) =>
          el("span", { class: "nowrap" }, `${count} `, badge(status))
        ),
      ),
    ),
    el("td", { class: "nowrap soft" }, moment(sweep.created_at)),
  );
}
