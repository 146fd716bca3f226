/** The page Storage: what takes how much space, the largest first, and what can be deleted. */

import { button } from "../components/button.js";
import { deleted } from "../components/deletion.js";
import { empty, loading, showProblem } from "../components/states.js";
import { scrolledTable } from "../components/table.js";
import { announce } from "../core/announce.js";
import { get } from "../core/api.js";
import { el, fill, name, refill } from "../core/dom.js";
import { bytes } from "../core/format.js";

const LARGEST = 100;
const KINDS = {
  dataset: ["Data set", () => "#/training/datasets"],
  model: ["Model", (its) => `#/models/${encodeURIComponent(its)}`],
  "train-job": ["Training job", (its) => `#/training/jobs/${its}`],
  "generate-job": ["Generate job", null],
};

export const storagePage = {
  title: () => "Storage",
  render(main, { signal }) {
    const place = el("div", { class: "stack" }, loading("Reading what takes space"));
    const trouble = el("div", {});
    const back = el("a", { class: "button", href: "#/service" }, "Service");
    const head = el("div", { class: "page-head" }, el("h1", {}, "Storage"), el("div", { class: "actions" }, back));
    fill(main, head, trouble, place);

    async function look() {
      try {
        const use = await get("/v1/storage", { query: { limit: LARGEST }, signal });
        fill(trouble);
        refill(place, facts(use), use.largest.length ? table(use.largest) : nothing());
      } catch (error) {
        showProblem(place.querySelector("table") ? trouble : place, error, { again: look, unasked: true });
      }
    }

    async function remove(one) {
      const what = `${KINDS[one.kind][0].toLowerCase()} ${one.name}`;
      try {
        if (!(await deleted(one.link, what, signal))) return;
        announce(`The ${what} is deleted`);
        await look();
      } catch (error) {
        showProblem(trouble, error);
      }
    }

    function table(owners) {
      const heads = ["Kind", "Name", el("th", { scope: "col", class: "number" }, "Size"), ""];
      return scrolledTable("What takes space", heads, owners.map(row));
    }

    function row(one) {
      const [kind, page] = KINDS[one.kind];
      const text = el("span", { class: "cell-name clamp" }, name(one.name));
      const remover = button("Delete", () => remove(one), {
        class: "quiet compact",
        "aria-label": `Delete ${kind.toLowerCase()} ${one.name}`,
        "data-focus-key": one.link,
      });
      return el(
        "tr",
        {},
        el("td", {}, kind),
        el("th", { scope: "row" }, page ? el("a", { href: page(one.name) }, text) : text),
        el("td", { class: "number nowrap" }, bytes(one.bytes)),
        el("td", {}, remover),
      );
    }
    look();
  },
};

const nothing = () => empty("Nothing is stored yet", "Data sets, models and jobs appear here with their sizes.");

function facts(use) {
  const fact = (term, detail) => el("div", {}, el("dt", {}, term), el("dd", {}, detail));
  return el(
    "dl",
    { class: "facts is-wide card" },
    fact("All files", bytes(use.artifact_bytes)),
    fact("Freed soon", bytes(use.unused_bytes)),
    fact("Database", bytes(use.database_bytes)),
    Object.entries(use.bytes).map(([kind, size]) => fact(`${KINDS[kind][0]}s`, bytes(size))),
  );
}
