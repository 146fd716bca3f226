/** The list of models. */

import { moreButton } from "../components/more.js";
import { empty, shown } from "../components/states.js";
import { get } from "../core/api.js";
import { el, fill, name } from "../core/dom.js";
import { moment } from "../core/format.js";
import { generateLink } from "./versions.js";

const PAGE_MODELS = 48;
const MOST_CLASSES = 8;

export const modelsPage = {
  title: () => "Models",
  render(main, { signal }) {
    const place = el("div", { class: "stack" });
    fill(main, el("div", { class: "page-head" }, el("h1", {}, "Models")), place);
    shown(place, () => list(signal), "Loading models");
  },
};

async function list(signal) {
  const cards = el("div", { class: "cards" });
  let after = null;
  async function add() {
    const page = await get("/v1/models", { query: { after, limit: PAGE_MODELS }, signal });
    cards.append(...page.models.map(card));
    after = page.next_after;
    return after !== null;
  }
  const rest = await add();
  if (!cards.children.length) {
    const train = el("a", { class: "button primary", href: "#/training/new" }, "Train one");
    return empty("No model yet", "A training job makes a model. Each checkpoint of the job is a version of it.", train);
  }
  return el("div", { class: "stack" }, cards, rest && moreButton("Show more", add));
}

function card(model) {
  const { production } = model.aliases;
  const classes = model.class_names || [];
  const rest = classes.length - MOST_CLASSES;
  const facts = [
    `${model.versions} ${model.versions === 1 ? "version" : "versions"}`,
    production ? `production is version ${production.version}` : "nothing in production",
    model.resident.length && "in memory",
  ];
  const tags = classes.slice(0, MOST_CLASSES).map((one) => el("li", { class: "tag" }, name(one)));
  const more = rest > 0 && el("li", { class: "soft small" }, `and ${rest} more`);
  return el(
    "article",
    { class: "card stack" },
    el("h2", {}, el("a", { href: `#/models/${encodeURIComponent(model.name)}` }, name(model.name))),
    el("p", { class: "soft small" }, facts.filter(Boolean).join(" · ")),
    classes.length > 0 && el("ul", { class: "classes" }, tags, more),
    el(
      "div",
      { class: "actions" },
      production && generateLink(model.name, model.name),
      el("span", { class: "soft small" }, `since ${moment(model.created_at)}`),
    ),
  );
}
