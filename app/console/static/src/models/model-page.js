/** One model: images and facts of one version, the frontiers, all versions with their figures, and the aliases. */

import { button } from "../components/button.js";
import { confirmed, openDialog } from "../components/dialog.js";
import { field, input } from "../components/fields.js";
import { loading, notice, showProblem } from "../components/states.js";
import { stackedTable } from "../components/table.js";
import { verdictBadge } from "../components/verdict.js";
import { get } from "../core/api.js";
import { el, fill, name } from "../core/dom.js";
import { bytes, moment, shortDigest, whole } from "../core/format.js";
import { loadSettings } from "../generate/settings.js";
import { versionAddition } from "./addition.js";
import { removeAlias } from "./alias-removal.js";
import { frontierChart } from "./frontier-chart.js";
import { pointAlias, promote } from "./promotion.js";
import { versionParts } from "./version-part.js";
import { figureCells, generateLink, promoteButton, protocolList, section, tags, versionPath } from "./versions.js";

const PAGE_VERSIONS = 50;
const ALIAS_FORM = "Lower-case letters, digits, dots, dashes; starts with a letter.";

export const modelPage = {
  title: (params) => params.name,
  render(main, { params, query, signal }) {
    const address = `/v1/models/${encodeURIComponent(params.name)}`;
    const place = el("div", { class: "stack" }, loading("Loading the model"));
    const said = el("div", {});
    const generate = { class: "button primary", href: `#/generate?model=${encodeURIComponent(params.name)}` };
    const actions = el("div", { class: "actions" }, el("a", generate, "Generate"));
    let wanted = Number(query.get("version")) || null;
    fill(main, el("div", { class: "page-head" }, el("h1", {}, name(params.name)), actions), said, place);
    let model = null;

    async function look() {
      try {
        [model] = await Promise.all([get(address, { query: { limit: PAGE_VERSIONS }, signal }), loadSettings()]);
        await show();
      } catch (error) {
        showProblem(place, error, { again: look, unasked: true });
      }
    }

    async function show() {
      const number = wanted ?? versionOf(model, "production") ?? model.newest.find((one) => one.kept)?.version;
      const version = number && (await get(versionPath(model.name, number), { signal }));
      const table = versionTable(model, { promoteIt, giveAlias });
      const older = model.next_before !== null && button("Show older versions", more);
      fill(
        place,
        version && versionParts(model, version, { said, signal, onPromote: promoteIt, onDeleted }),
        frontiers(version ? [version] : []),
        section("Versions", "Versions", table, protocols(model.newest), older),
        section("Aliases", "Aliases", aliasTable(model, remove)),
        section("Add a version", "Add a version", versionAddition(model.name, { said, onAdded: look, signal })),
      );
    }

    function onDeleted({ version }) {
      wanted = null;
      fill(said, notice("good", `The weights of version ${version} are deleted`));
      look();
    }

    async function more() {
      try {
        const query = { before: model.next_before, limit: PAGE_VERSIONS };
        const next = await get(address, { query, signal });
        model = { ...model, newest: [...model.newest, ...next.newest], next_before: next.next_before };
        await show();
      } catch (error) {
        showProblem(said, error, { again: more });
      }
    }

    async function remove(alias) {
      if (await removeAlias(params.name, alias, said, signal)) await look();
    }

    async function promoteIt(version) {
      if (await promote(params.name, version, versionOf(model, "production"), said, signal)) await look();
    }

    async function giveAlias(version) {
      const alias = await askForAlias(version);
      if (!alias) return;
      const before = versionOf(model, alias);
      const moves = before !== null && before !== version;
      const [title, text] = [`Move ${alias} to version ${version}?`, `It is version ${before} now.`];
      if (moves && !(await confirmed(title, text, "Move it"))) return;
      if (await pointAlias(params.name, alias, version, before, said, signal)) await look();
    }

    said.addEventListener("moved", look);
    look();
  },
};

const versionOf = (model, alias) => model.aliases[alias]?.version ?? null;

function frontiers(versions) {
  const charts = versions.flatMap((one) => one.frontiers.map((frontier) => frontierChart(one.version, frontier)));
  if (!charts.length) return null;
  return section("Frontier", "Steps against quality", charts);
}

function aliasTable(model, remove) {
  const row = ([alias, target]) => {
    const properties = { class: "compact", "aria-label": `Remove alias ${alias}` };
    return el(
      "tr",
      {},
      el("th", { scope: "row" }, alias),
      el("td", {}, `version ${target.version}`),
      el("td", {}, el("code", { title: target.digest }, shortDigest(target.digest))),
      el("td", {}, alias !== "production" && button("Remove", () => remove(alias), properties)),
    );
  };
  const rows = Object.entries(model.aliases).map(row);
  const none = "None. Promote a version, so that it answers the requests for this model.";
  if (!rows.length) return el("p", { class: "soft" }, none);
  return stackedTable("Table of aliases", ["Alias", "Version", "Digest", ""], rows);
}

function versionTable(model, actions) {
  const metrics = [...new Set(model.newest.flatMap((one) => Object.keys(one.metrics)))];
  const heads = ["Version", "Images seen", ...metrics, "From", "Size", "Created", ""];
  return stackedTable("Table of versions", heads, model.newest.map((one) => versionRow(model, one, metrics, actions)));
}

function versionRow(model, one, metrics, { promoteIt, giveAlias }) {
  const { version } = one;
  const aliases = Object.keys(model.aliases).filter((alias) => versionOf(model, alias) === version);
  const marks = tags(...aliases.map((alias) => [alias, alias === "production"]), one.resident && ["in memory"]);
  const properties = { class: "compact", "aria-label": `Give version ${version} an alias` };
  const actions = one.kept && [
    version !== versionOf(model, "production") && promoteButton(version, () => promoteIt(version)),
    button("Alias…", () => giveAlias(version), properties),
    generateLink(`${model.name}@${version}`, `version ${version}`),
  ];
  return el(
    "tr",
    {},
    el(
      "th",
      { scope: "row" },
      el("span", { class: "row" }, versionLink(model.name, version), marks, verdictBadge(one.verdict)),
    ),
    el("td", {}, whole(one.images_seen)),
    figureCells(metrics, one.metrics),
    el("td", { class: "soft" }, one.source),
    el("td", { class: "nowrap soft" }, one.kept ? bytes(one.size_bytes) : "not kept"),
    el("td", { class: "nowrap soft" }, moment(one.created_at)),
    el("td", {}, actions && el("div", { class: "actions end" }, actions)),
  );
}

function versionLink(model, version) {
  const href = `#/models/${encodeURIComponent(model)}?version=${version}`;
  return el("a", { href, "aria-label": `Show version ${version}` }, String(version));
}

function protocols(versions) {
  const lines = new Set(versions.flatMap((one) => one.evaluations.map((found) => found.protocol_string)));
  if (lines.size) {
    const note = el("p", { class: "soft" }, "Compare figures only where their protocol is equal.");
    return protocolList([...lines], { open: true }, note);
  }
  const text = "Figures without a protocol came with the weights. The model card says how they were measured.";
  return el("p", { class: "soft small" }, text);
}

function askForAlias(version) {
  const control = input("alias", { required: true, pattern: "[a-z][a-z0-9._\\-]{0,62}", maxlength: 63 });
  const named = field("Alias", control, { hint: ALIAS_FORM });
  const form = (close) => {
    const submit = (event) => {
      event.preventDefault();
      if (control.checkValidity()) close(control.value);
      else named.fault(ALIAS_FORM);
    };
    const set = el("button", { type: "submit", class: "primary" }, "Set the alias");
    const properties = { class: "stack", novalidate: true, on: { submit } };
    return el("form", properties, named, el("div", { class: "actions" }, set));
  };
  return openDialog(`An alias for version ${version}`, form, { narrow: true });
}
