/** The form of POST /v1/generate: what to draw, and how. An empty field stands for the model's own setting. */

import { button } from "../components/button.js";
import { keepDraft } from "../components/draft.js";
import { clearFaults, field, filledIn, input, radios, refuse, showFaults } from "../components/fields.js";
import { problemNotice } from "../components/states.js";
import { el, fill } from "../core/dom.js";
import { several } from "../core/format.js";
import { rewriteQuery } from "../core/router.js";
import { classChoice } from "./class-choice.js";
import { modelChoice } from "./model-choice.js";
import { meaningOf, PRESETS } from "./presets.js";
import { settingField } from "./setting-field.js";
import { pickedByQuality, settings } from "./settings.js";
import { trainingNote } from "./training-note.js";

const DRAFT = "generate";
const FIRST_N = "4";

/** A window below this width shows the form above the images, and folds it after a request. */
const NARROW = matchMedia("(max-width: 960px)");

/**
 * Makes the form. onSubmit gets {body, title, expected}. It has `faults(problem)`, `useSeed(seed)`, `fold()`, which
 * hides the fields on a narrow screen, and `settings()`, the part of a request that says how to draw, or null.
 */
export function generateForm({ query, signal, onSubmit }) {
  const problems = el("div", {});
  const note = el("div", {});
  const choice = modelChoice({ query, signal, problems, onChange: showModel });
  const fields = { model: choice.model, version: choice.version, ...fieldsOf() };
  const allFields = Object.values(fields).flat();
  const draw = el("button", { type: "submit", class: "primary", disabled: true }, "Generate");
  const summary = el("summary", {}, "What to draw");
  const foldable = el("details", { class: "fold", open: true }, summary, foldedPart(fields, note));
  const form = el(
    "form",
    { class: "card stack generate-form", novalidate: true, "aria-label": "What to draw" },
    foldable,
    problems,
    el("div", { class: "actions" }, draw, button("Empty all fields", reset, { class: "quiet" })),
  );
  const value = (member) => form.elements.namedItem(member).value.trim();
  const keep = keepDraft(form, DRAFT);
  let atOnce = query.has("draw");
  let linked = !atOnce && [...query.keys()].some((key) => key !== "model"); // an address that says all settings

  function showModel() {
    const version = choice.chosen();
    draw.disabled = !version;
    if (!version) return;
    for (const one of fields.settings) one.showOwn(version.default_sampling);
    fields.class.offer(choice.name(), version.class_names);
    fill(note, trainingNote(version));
    if (linked) useLink();
    showChoice();
    if (atOnce) {
      atOnce = false;
      rewriteQuery({ model: choice.reference() }); // so that it is not drawn again after a reload
      form.requestSubmit();
    }
  }

  function useLink() {
    linked = false;
    reset();
    for (const [member, text] of query) {
      const control = form.elements.namedItem(member);
      if (control && !["model", "version"].includes(member)) control.value = text;
    }
    fields.class.choose(query.getAll("class"));
    keep();
  }

  function showChoice() {
    const preset = value("quality");
    const version = choice.chosen();
    for (const one of fields.settings) {
      one.control.disabled = preset !== "" && pickedByQuality.includes(one.setting);
    }
    const guidance = Number(value("guidance") || version?.default_sampling.guidance);
    fields.quality.hint(version && meaningOf(preset, version, guidance));
    const chosen = `${fields.class.chosen().length} × ${several(Number(value("n")), "image")}`;
    summary.textContent = [choice.reference(), chosen, PRESETS.find(([one]) => one === preset)[1]].join(" · ");
  }

  function reset() {
    for (const control of form.elements) {
      if (!control.name || control.dataset.undrafted !== undefined || control.type === "checkbox") continue;
      if (control.type === "radio") control.checked = control.value === "";
      else control.value = control.name === "n" ? FIRST_N : "";
    }
    keep();
    showChoice();
    fill(problems);
    clearFaults(allFields);
  }

  function submit(event) {
    event.preventDefault();
    fill(problems);
    clearFaults(allFields);
    const indices = fields.class.chosen();
    if (!indices.length) {
      refuse(fields.class, "Choose at least one class.");
      fields.class.querySelector("input[type=checkbox]")?.focus();
      return;
    }
    const most = Math.floor(choice.requestImages() / indices.length);
    const tooMany =
      `One request may draw ${choice.requestImages()} images: at most ${most} of each of ${indices.length} classes.`;
    for (const { control } of [fields.n, fields.best_of]) {
      control.setCustomValidity(Number(control.value) > most ? tooMany : "");
    }
    if (areUsable()) onSubmit(requestOf(indices));
  }

  /** Says which field is wrong, if one is. */
  function areUsable() {
    const faulty = allFields.find((one) => one.control.willValidate && !one.control.checkValidity());
    if (faulty) refuse(faulty, faulty.control.validationMessage);
    return !faulty;
  }

  function requestOf(indices) {
    const names = choice.chosen().class_names;
    const title = indices.map((index) => names[index]);
    const body = {
      class: title,
      n: Number(value("n")),
      ...filledIn(form, ["best_of", "first_index", "deadline_seconds"], Number),
      ...filledIn(form, ["seed"], BigInt),
      ...settingsOfRequest(),
    };
    const images = (index) => Array.from({ length: body.n }, () => ({ class: names[index], class_index: index }));
    return { body, title, expected: indices.flatMap(images) };
  }

  function settingsOfRequest() {
    const asked = { model: choice.reference(), ...filledIn(form, ["quality"]) };
    for (const one of fields.settings) {
      if (!one.control.disabled && one.isGiven()) asked[one.setting] = one.given(choice.chosen().default_sampling);
    }
    return asked;
  }

  form.faults = (problem) => {
    const leftOver = showFaults(allFields, problem);
    if (leftOver.length || !problem.errors.length) fill(problems, problemNotice(problem, { leftOver }));
  };
  form.useSeed = (seed) => {
    form.elements.namedItem("seed").value = String(seed);
    keep();
  };
  form.fold = () => {
    foldable.open = !NARROW.matches;
    if (NARROW.matches) form.scrollIntoView();
  };
  form.settings = () => (choice.chosen() && areUsable() ? settingsOfRequest() : null);
  form.addEventListener("submit", submit);
  for (const kind of ["input", "change"]) form.addEventListener(kind, showChoice);
  form.addEventListener("input", () => rewriteQuery({})); // the address no longer says what the form does
  NARROW.addEventListener("change", () => form.fold(), { signal });
  showChoice();
  choice.load();
  return form;
}

/** Makes the fields by the member of the request that they fill. settings: those of the sampling settings. */
function fieldsOf() {
  const number = (label, member, properties, hint = null) => {
    const control = input(member, { type: "number", inputmode: "decimal", ...properties });
    return field(label, control, { pointer: `/${member}`, hint });
  };
  const seed = input("seed", { inputmode: "numeric", pattern: "\\d*", placeholder: "random" });
  return {
    class: classChoice(),
    n: number("Images of each", "n", { min: 1, step: 1, value: FIRST_N, required: true }),
    seed: field("Seed", seed, { pointer: "/seed" }),
    quality: radios("Quality", "quality", PRESETS, { pointer: "/quality" }),
    best_of: number("Best of", "best_of", { min: 1, step: 1, placeholder: "all" }, "Draw this many and keep the best."),
    first_index: number("First index", "first_index", { min: 0, step: 1, placeholder: "0" }),
    deadline_seconds: number("Deadline (s)", "deadline_seconds", { min: 0, step: "any", placeholder: "none" }),
    settings: settings.map(settingField),
  };
}

function foldedPart(fields, note) {
  const more = [fields.settings, fields.best_of, fields.first_index, fields.deadline_seconds];
  const own = "An empty field takes the model's own setting. A preset chooses the sampler's settings.";
  return el(
    "div",
    { class: "stack" },
    el("div", { class: "fields" }, fields.model, fields.version),
    note,
    fields.class,
    el("div", { class: "fields" }, fields.n, fields.seed),
    fields.quality,
    el(
      "details",
      { class: "more" },
      el("summary", {}, "More"),
      el("p", { class: "soft small" }, own),
      el("div", { class: "fields" }, more),
    ),
  );
}
