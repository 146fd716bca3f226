/** One model: its aliases, versions with their figures and how they were measured, and its frontiers. */

import { get } from "../core/api.js";
import { el, fill, name } from "../core/dom.js";
import { bytes, figure, moment, shortDigest, whole } from "../core/format.js";
import { confirmed, openDialog } from "../components/dialog.js";
import { field, input } from "../components/fields.js";
import { loading, problemNotice } from "../components/states.js";
import { frontierChart } from "./frontier-chart.js";
import { pointAlias, promote } from "./promotion.js";
import { removeAlias } from "./alias-removal.js";

const PAGE_VERSIONS = 50;

export const modelPage = {
  title: (params) => params.name,
  render(main, { params, signal }) {
    const address = `/v1/models/${encodeURIComponent(params.name)}`;
    const place = el("div", { class: "stack" }, loading("Loading the model"));
    const said = el("div", {});
    fill(
      main,
      el(
        "div",
        { class: "page-head" },
        el("h1", {}, name(params.name)),
        el(
          "div",
          { class: "actions" },
          el("a", { class: "button primary", href: `#/generate?model=${encodeURIComponent(params.name)}` }, "Generate"),
        ),
      ),
      said,
      place,
    );
    let versions = [];

    async function look() {
      try {
        const model = await get(address, { query: { limit: PAGE_VERSIONS }, signal });
        versions = model.newest;
        show(model);
      } catch (error) {
        if (error.name !== "AbortError") fill(place, problemNotice(error, { again: look, unasked: true }));
      }
    }

    function show(model) {
      const measured = versions.filter((one) => one.frontiers.length);
      fill(
        place,
        el("section", { class: "card stack", "aria-label": "Aliases" }, el("h2", {}, "Aliases"), aliases(model)),
        measured.length > 0 &&
          el(
            "section",
            { class: "card stack", "aria-label": "Frontier" },
            el("h2", {}, "Steps against quality"),
            measured.slice(0, 3).flatMap((one) =>
              one.frontiers.map((frontier) => frontierChart(one.version, frontier))
            ),
          ),
        el(
          "section",
          { class: "card stack", "aria-label": "Versions" },
          el("h2", {}, "Versions"),
          table(model),
          protocols(),
          older(model),
        ),
      );
    }

    function aliases(model) {
      const rows = Object.entries(model.aliases).map(([alias, target]) =>
        el(
          "tr",
          {},
          el("th", { scope: "row" }, alias),
          el("td", {}, `version ${target.version}`),
          el("td", {}, el("code", { title: target.digest }, shortDigest(target.digest))),
          el(
            "td",
            {},
            alias !== "production" &&
              el("button", {
                type: "button",
                class: "compact",
                "aria-label": `Remove alias ${alias}`,
                on: { click: () => removeAlias(params.name, alias, said, signal).then((done) => done && look()) },
              }, "Remove"),
          ),
        )
      );
      if (!rows.length) {
        return el("p", { class: "soft" }, "None. Promote a version, and requests for this model are answered by it.");
      }
      return el(
        "div",
        { class: "table-wrap", tabindex: "0", role: "region", "aria-label": "Table of aliases" },
        el(
          "table",
          {},
          el(
            "thead",
            {},
            el(
              "tr",
              {},
              ["Alias", "Means", "Digest", ""].map((text) =>
                el("th", { scope: "col" }, text || el("span", { class: "visually-hidden" }, "Actions"))
              ),
            ),
          ),
          el("tbody", {}, rows),
        ),
      );
    }

    function table(model) {
      const metrics = [...new Set(versions.flatMap((one) => Object.keys(one.metrics)))];
      return el(
        "div",
        { class: "table-wrap", tabindex: "0", role: "region", "aria-label": "Table of versions" },
        el(
          "table",
          {},
          el(
            "thead",
            {},
            el(
              "tr",
              {},
              ["Version", "Images seen", ...metrics, "From", "Size", "Created", ""].map((text) =>
                el("th", { scope: "col" }, text || el("span", { class: "visually-hidden" }, "Actions"))
              ),
            ),
          ),
          el("tbody", {}, versions.map((one) => row(model, one, metrics))),
        ),
      );
    }

    function row(model, one, metrics) {
      const named = Object.entries(model.aliases).filter(([, target]) => target.version === one.version).map((
        [alias],
      ) => alias);
      const production = model.aliases.production?.version ?? null;
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
            named.map((alias) => el("span", { class: alias === "production" ? "tag is-accent" : "tag" }, alias)),
            one.resident && el("span", { class: "tag" }, "in memory"),
          ),
        ),
        el("td", {}, whole(one.images_seen)),
        metrics.map((metric) => el("td", {}, metric in one.metrics ? figure(one.metrics[metric]) : "–")),
        el("td", { class: "soft" }, one.source),
        el("td", { class: "nowrap soft" }, one.kept ? bytes(one.size_bytes) : "not kept"),
        el("td", { class: "nowrap soft" }, moment(one.created_at)),
        el(
          "td",
          {},
          one.kept &&
            el(
              "div",
              { class: "actions end" },
              one.version !== production &&
                el("button", {
                  type: "button",
                  class: "compact",
                  "aria-label": `Promote version ${one.version}`,
                  on: { click: () => promoteIt(one.version, production) },
                }, "Promote"),
              el("button", {
                type: "button",
                class: "compact",
                "aria-label": `Give version ${one.version} an alias`,
                on: { click: () => giveAlias(model, one.version) },
              }, "Alias…"),
              el("a", {
                class: "button compact",
                href: `#/generate?model=${encodeURIComponent(`${params.name}@${one.version}`)}`,
                "aria-label": `Generate from version ${one.version}`,
              }, "Generate"),
            ),
        ),
      );
    }

    function protocols() {
      const lines = new Set(versions.flatMap((one) => one.evaluations.map((found) => found.protocol_string)));
      if (!lines.size) {
        return el(
          "p",
          { class: "soft small" },
          "Figures without a protocol came with the weights; the model card says how they were measured.",
        );
      }
      return el(
        "details",
        { class: "more small", open: true },
        el("summary", {}, "How the figures were measured"),
        el("ul", { class: "protocols" }, [...lines].map((text) => el("li", {}, el("code", {}, text)))),
        el("p", { class: "soft" }, "Figures compare where their protocol is equal."),
      );
    }

    function older(model) {
      if (model.next_before === null) return null;
      const more = async () => {
        try {
          const next = await get(address, { query: { before: model.next_before, limit: PAGE_VERSIONS }, signal });
          versions = [...versions, ...next.newest];
          show({ ...model, next_before: next.next_before });
        } catch (error) {
          if (error.name !== "AbortError") fill(said, problemNotice(error, { again: more }));
        }
      };
      return el("button", { type: "button", on: { click: more } }, "Show older versions");
    }

    async function promoteIt(version, production) {
      if (await promote(params.name, version, production, said, signal)) await look();
    }

    async function giveAlias(model, version) {
      const control = input("alias", { required: true, pattern: "[a-z][a-z0-9._\\-]{0,62}", maxlength: 63 });
      const alias = await openDialog(
        `An alias for version ${version}`,
        (close) => {
          const named = field("Alias", control, { hint: "Small letters, digits, dots, dashes; begins with a letter." });
          const submit = (event) => {
            event.preventDefault();
            if (control.checkValidity()) close(control.value);
            else named.fault("Small letters, digits, dots, dashes; begins with a letter.");
          };
          return el(
            "form",
            { class: "stack", novalidate: true, on: { submit } },
            named,
            el("div", { class: "actions" }, el("button", { type: "submit", class: "primary" }, "Set the alias")),
          );
        },
        { narrow: true },
      );
      if (!alias) return;
      const before = model.aliases[alias]?.version ?? null;
      const moves = before !== null && before !== version;
      if (
        moves && !(await confirmed(`Move ${alias} to version ${version}?`, `It is version ${before} now.`, "Move it"))
      ) return;
      if (await pointAlias(params.name, alias, version, before, said, signal)) await look();
    }

    said.addEventListener("moved", look);
    look();
  },
};
