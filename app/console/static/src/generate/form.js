/** The form of POST /v1/generate: what to draw, and how. An empty field stands for the value of the model's card. */

import { button } from "../components/button.js";
import { keepDraft } from "../components/draft.js";
import { clearFaults, field, input, options, refuse, select, showFaults } from "../components/fields.js";
import { notice, problemNotice, showProblem } from "../components/states.js";
import { get, pagesOf } from "../core/api.js";
import { el, fill } from "../core/dom.js";
import { classChoice } from "./class-choice.js";
import { AS_THE_CARD, settingField } from "./setting-field.js";
import { pickedByQuality, settings } from "./settings.js";

const IN_FRONT = ["guidance", "steps", "sampler", "threshold"];
const DRAFT = "generate";
const FIRST_N = "8";

/** Makes the form. onSubmit gets {body, title, expected}. It has `faults(problem)` and `useSeed(seed)`. */
export function generateForm({ query, signal, onSubmit }) {
  const fields = fieldsOf();
  const allFields = Object.values(fields).flat();
  const problems = el("div", {});
  const draw = el("button", { type: "submit", class: "primary", disabled: true }, "Generate");
  const form = layout(fields, problems, [draw, button("Empty all fields", reset, { class: "quiet" })]);
  const value = (member) => form.elements.namedItem(member).value.trim();
  const keep = keepDraft(form, DRAFT);
  const [model, version] = [fields.model.control, fields.version.control];
  let models = [];
  let requestImages = Infinity;
  let detail = null;

  async function load() {
    try {
      [models, requestImages] = await allModels(signal);
      fill(problems);
    } catch (error) {
      showProblem(problems, error, { again: load, unasked: true });
      return;
    }
    if (!models.length) {
      const link = el("a", { href: "#/training/new" }, "Train one");
      fill(problems, notice("", "There is no model yet", el("p", {}, link, " and promote it.")));
      return;
    }
    fill(model, options(models.map((one) => one.name)));
    const [asked, askedVersion] = (query.get("model") || sessionStorage.getItem("darkroom-model") || "").split("@");
    const named = (test) => models.find(test);
    const known = named((one) => one.name === asked) || named((one) => one.resident.length) || models[0];
    model.value = known.name;
    await chooseModel(known.name, known.name === asked ? askedVersion : "");
  }

  async function chooseModel(chosen, wantedVersion = "") {
    sessionStorage.setItem("darkroom-model", chosen);
    draw.disabled = true;
    try {
      detail = await get(`/v1/models/${encodeURIComponent(chosen)}`, { query: { limit: 200 }, signal });
    } catch (error) {
      showProblem(problems, error, { again: () => chooseModel(chosen, wantedVersion), unasked: true });
      return;
    }
    fill(problems);
    const { production } = detail.aliases;
    const kept = detail.newest.filter((one) => one.kept).map((one) => [String(one.version), `version ${one.version}`]);
    fill(version, options([...(production ? [["", `production (${production.version})`]] : []), ...kept]));
    if (wantedVersion && [...version.options].some((one) => one.value === wantedVersion)) version.value = wantedVersion;
    showVersion();
  }

  function classNames() {
    const wanted = version.value ? Number(version.value) : detail.aliases.production?.version;
    return detail.newest.find((one) => one.version === wanted)?.class_names || detail.class_names || [];
  }

  function showVersion() {
    for (const one of fields.settings) one.showCard(detail.default_sampling);
    fields.class.offer(model.value, classNames());
    draw.disabled = version.options.length === 0;
    fields.version.fault(version.options.length ? null : "No version of this model is kept.");
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
    const most = Math.floor(requestImages / indices.length);
    const tooMany =
      `One request may draw ${requestImages} images: at most ${most} of each of ${indices.length} classes.`;
    for (const { control } of [fields.n, fields.best_of]) {
      control.setCustomValidity(Number(control.value) > most ? tooMany : "");
    }
    const faulty = allFields.find((one) => one.control.willValidate && !one.control.checkValidity());
    if (faulty) refuse(faulty, faulty.control.validationMessage);
    else onSubmit(requestOf(indices));
  }

  function requestOf(indices) {
    const names = classNames();
    const title = indices.map((index) => names[index]);
    const wanted = version.value ? `${model.value}@${version.value}` : model.value;
    const body = { class: title, n: Number(value("n")), model: wanted };
    if (value("seed")) body.seed = BigInt(value("seed"));
    for (const member of ["best_of", "first_index", "deadline_seconds"]) {
      if (value(member)) body[member] = Number(value(member));
    }
    if (value("quality")) body.quality = value("quality");
    for (const one of fields.settings) {
      if (!one.control.disabled && one.isGiven()) body[one.setting] = one.given(detail.default_sampling);
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
  model.addEventListener("change", () => chooseModel(model.value));
  version.addEventListener("change", showVersion);
  showQuality();
  load();
  document.addEventListener("serviceback", () => models.length || load(), { signal });
  return form;
}

/** Makes the fields by the member of the request that they fill. settings: those of the sampling settings. */
function fieldsOf() {
  const number = (label, member, properties, hint = null) => {
    const control = input(member, { type: "number", inputmode: "decimal", ...properties });
    return field(label, control, { pointer: `/${member}`, hint });
  };
  const undrafted = { "data-undrafted": "" };
  const seed = input("seed", { inputmode: "numeric", pattern: "\\d*", placeholder: "random" });
  const quality = select("quality", [AS_THE_CARD, "fast", "balanced", "best"]);
  return {
    model: field("Model", select("model", [], undrafted), { pointer: "/model", wide: true }),
    version: field("Version", select("version", [["", "production"]], undrafted)),
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

/** Returns all models, and how many images one request may draw. */
async function allModels(signal) {
  const found = [];
  let requestImages;
  for await (const page of pagesOf("/v1/models", { signal })) {
    found.push(...page.models);
    requestImages = page.request_images;
  }
  return [found, requestImages];
}
