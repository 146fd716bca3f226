/** The form of POST /v1/generate: what to draw, and how. An empty field stands for the value of the model's card. */

import { button } from "../components/button.js";
import { keepDraft } from "../components/draft.js";
import { clearFaults, field, filledIn, input, refuse, select, showFaults } from "../components/fields.js";
import { problemNotice } from "../components/states.js";
import { el, fill } from "../core/dom.js";
import { classChoice } from "./class-choice.js";
import { modelChoice } from "./model-choice.js";
import { AS_THE_CARD, settingField } from "./setting-field.js";
import { pickedByQuality, settings } from "./settings.js";

const IN_FRONT = ["guidance", "steps", "sampler", "threshold"];
const DRAFT = "generate";
const FIRST_N = "8";

/** Makes the form. onSubmit gets {body, title, expected}. It has `faults(problem)` and `useSeed(seed)`. */
export function generateForm({ query, signal, onSubmit }) {
  const problems = el("div", {});
  const choice = modelChoice({ query, signal, problems, onChange: showModel });
  const fields = { model: choice.model, version: choice.version, ...fieldsOf() };
  const allFields = Object.values(fields).flat();
  const draw = el("button", { type: "submit", class: "primary", disabled: true }, "Generate");
  const form = layout(fields, problems, [draw, button("Empty all fields", reset, { class: "quiet" })]);
  const value = (member) => form.elements.namedItem(member).value.trim();
  const keep = keepDraft(form, DRAFT);

  function showModel() {
    draw.disabled = !choice.hasVersion();
    if (!choice.isRead()) return;
    for (const one of fields.settings) one.showCard(choice.card());
    fields.class.offer(choice.name(), choice.classNames());
  }

  function showQuality() {
    const picks = value("quality") !== "";
    for (const one of fields.settings) one.control.disabled = picks && pickedByQuality.includes(one.setting);
  }

  function reset() {
    for (const control of form.elements) {
      if (!control.name || control.dataset.undrafted !== undefined || control.type === "checkbox") continue;
      control.value = control.name === "n" ? FIRST_N : "";
    }
    keep();
    showQuality();
    fill(problems);
    clearFaults(allFields);
  }

  function submit(event) {
    event.preventDefault();
    fill(problems);
    clearFaults(allFields);
    const indices = fields.class.chosen();
    if (!indices.length) {
      fields.class.fault("Choose at least one class.");
      fields.class.querySelector("input[type=checkbox]")?.focus();
      return;
    }
    const most = Math.floor(choice.requestImages() / indices.length);
    const tooMany =
      `One request may draw ${choice.requestImages()} images: at most ${most} of each of ${indices.length} classes.`;
    for (const { control } of [fields.n, fields.best_of]) {
      control.setCustomValidity(Number(control.value) > most ? tooMany : "");
    }
    const faulty = allFields.find((one) => one.control.willValidate && !one.control.checkValidity());
    if (faulty) refuse(faulty, faulty.control.validationMessage);
    else onSubmit(requestOf(indices));
  }

  function requestOf(indices) {
    const names = choice.classNames();
    const title = indices.map((index) => names[index]);
    const body = {
      class: title,
      model: choice.reference(),
      n: Number(value("n")),
      ...filledIn(form, ["best_of", "first_index", "deadline_seconds"], Number),
      ...filledIn(form, ["seed"], BigInt),
      ...filledIn(form, ["quality"]),
    };
    for (const one of fields.settings) {
      if (!one.control.disabled && one.isGiven()) body[one.setting] = one.given(choice.card());
    }
    const images = (index) => Array.from({ length: body.n }, () => ({ class: names[index], class_index: index }));
    return { body, title, expected: indices.flatMap(images) };
  }

  form.faults = (problem) => {
    const leftOver = showFaults(allFields, problem);
    if (leftOver.length || !problem.errors.length) fill(problems, problemNotice(problem, { leftOver }));
  };
  form.useSeed = (seed) => {
    form.elements.namedItem("seed").value = String(seed);
    keep();
  };
  form.addEventListener("submit", submit);
  fields.quality.control.addEventListener("change", showQuality);
  showQuality();
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
  const quality = select("quality", [AS_THE_CARD, "fast", "balanced", "best"]);
  return {
    class: classChoice(),
    n: number("Images of each", "n", { min: 1, step: 1, value: FIRST_N, required: true }),
    seed: field("Seed", seed, { pointer: "/seed" }),
    quality: field("Quality", quality, {
      pointer: "/quality",
      hint: "Chooses the sampler, its steps and their spacing.",
    }),
    best_of: number("Best of", "best_of", { min: 1, step: 1, placeholder: "all" }, "Draw this many and keep the best."),
    first_index: number("First index", "first_index", { min: 0, step: 1, placeholder: "0" }),
    deadline_seconds: number("Deadline (s)", "deadline_seconds", { min: 0, step: "any", placeholder: "none" }),
    settings: settings.map(settingField),
  };
}

function layout(fields, problems, actions) {
  const inFront = fields.settings.filter((one) => IN_FRONT.includes(one.setting));
  const others = fields.settings.filter((one) => !IN_FRONT.includes(one.setting));
  const rest = [fields.quality, fields.best_of, others, fields.first_index, fields.deadline_seconds];
  return el(
    "form",
    { class: "card stack generate-form", novalidate: true, "aria-label": "What to draw" },
    el("div", { class: "fields" }, fields.model, fields.version),
    fields.class,
    el("div", { class: "fields" }, fields.n, fields.seed, inFront),
    el("details", { class: "more" }, el("summary", {}, "More"), el("div", { class: "fields" }, rest)),
    problems,
    el("div", { class: "actions" }, actions),
  );
}
