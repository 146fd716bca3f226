/** The choice of classes: a checkbox for each, with a filter when there are many. It is kept for each model. */

import { group, input } from "../components/fields.js";
import { button } from "../components/button.js";
import { el, fill, name, refill } from "../core/dom.js";

const MOST_SHOWN = 200;
const MOST_WITHOUT_FILTER = 24;
const FIRST_CHOSEN = 10; // of a model that was not chosen before

/**
 * Makes a field with `offer(model, names)`, which shows a model's classes; `choose(names)`; and `chosen()`, the chosen
 * indices.
 */
export function classChoice() {
  const undrafted = { "data-undrafted": "" }; // kept for each model, so that it is no part of the form's draft
  const label = "Filter classes";
  const filter = input("filter", { type: "search", placeholder: label, "aria-label": label, ...undrafted });
  const chips = el("div", { class: "chips" });
  const tools = el("div", { class: "row small" });
  const node = group("Classes", [filter, chips, tools], { pointer: "/class" });
  let model = "";
  let names = [];
  let wanted = new Set();

  function matching() {
    const text = filter.value.trim().toLocaleLowerCase();
    return [...names.keys()].filter((index) => names[index].toLocaleLowerCase().includes(text));
  }

  function chip(index) {
    const change = (event) => {
      if (event.target.checked) wanted.add(index);
      else wanted.delete(index);
      keep();
    };
    const box = { type: "checkbox", checked: wanted.has(index), on: { change }, ...undrafted };
    return el("label", { class: "chip" }, el("input", box), name(names[index]));
  }

  function show() {
    fill(chips, matching().slice(0, MOST_SHOWN).map(chip));
    showTools();
  }

  function showTools() {
    const found = matching();
    const rest = found.length - MOST_SHOWN;
    const count = `${wanted.size} of ${names.length} chosen${rest > 0 ? `; ${rest} more match` : ""}`;
    refill(tools, tool("All", found), tool("None", []), el("span", { class: "soft" }, count));
  }

  function tool(text, indices) {
    const take = () => {
      choose(indices);
      node.dispatchEvent(new Event("input", { bubbles: true })); // as if the user had pressed each class
    };
    return button(text, take, { class: "quiet compact", "data-focus-key": text });
  }

  function choose(indices) {
    wanted = new Set(indices);
    keep();
    fill(chips, matching().slice(0, MOST_SHOWN).map(chip));
  }

  function keep() {
    sessionStorage.setItem(stored(model), JSON.stringify([...wanted]));
    showTools();
  }

  filter.addEventListener("input", show);
  node.offer = (itsModel, itsNames) => {
    [model, names] = [itsModel, itsNames];
    wanted = new Set(storedClasses(model).filter((index) => index < names.length));
    if (!wanted.size) wanted = new Set([...names.keys()].slice(0, FIRST_CHOSEN));
    filter.hidden = names.length <= MOST_WITHOUT_FILTER;
    show();
  };
  node.choose = (chosen) => choose(chosen.map((one) => names.indexOf(one)).filter((index) => index >= 0));
  node.chosen = () => [...wanted].sort((one, other) => one - other);
  return node;
}

const stored = (model) => `darkroom-classes-${model}`;

function storedClasses(model) {
  try {
    return JSON.parse(sessionStorage.getItem(stored(model))) || [];
  } catch {
    return [];
  }
}
