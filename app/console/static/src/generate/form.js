/** The form of POST /generate: what to draw and how. What is left empty is as the model's card says. */

import { get } from "../core/api.js";
import { el, fill, name as named } from "../core/dom.js";
import { keepDraft, restoreDraft } from "../components/draft.js";
import { field, group, input, select, showFaults } from "../components/fields.js";
import { problemNotice } from "../components/states.js";
import { pickedByQuality, settings } from "./settings.js";

const IN_FRONT = ["guidance", "steps", "sampler", "threshold"];
const MOST_CLASSES_SHOWN = 200;
const CLASSES_WITHOUT_FILTER = 24;
const DRAFT = "generate";
const AS_THE_CARD = ["", "as the model's card"];
const EVERYWHERE = [0, 1e6]; // as an interval

/** The form, with `faults(problem)`, `useSettings(values)` and `ready`; onSubmit gets {body, title, expected}. */
export function generateForm({ query, signal, onSubmit }) {
  let models = [];
  let requestImages = Infinity;
  let detail = null;
  let wantedClasses = new Set();

  const model = select("model", [], { "data-undrafted": "" });
  const version = select("version", [["", "production"]], { "data-undrafted": "" });
  const filter = input("filter", {
    type: "search",
    placeholder: "Filter classes",
    "aria-label": "Filter classes",
    "data-undrafted": "",
  });
  const chips = el("div", { class: "chips" });
  const chipTools = el("div", { class: "row small" });
  const number = (label, member, properties, more) =>
    field(label, input(member, { type: "number", inputmode: "decimal", ...properties }), {
      pointer: `/${member}`,
      ...more,
    });
  const ofSettings = settings.map((setting) => settingField(setting));
  const inFront = ofSettings.filter((one) => IN_FRONT.includes(one.setting));
  const others = ofSettings.filter((one) => !IN_FRONT.includes(one.setting));

  const fields = {
    model: field("Model", model, { pointer: "/model", wide: true }),
    version: field("Version", version),
    class: group("Classes", [filter, chips, chipTools], { pointer: "/class" }),
    n: number("Images of each", "n", { min: 1, step: 1, value: 8, required: true }),
    seed: field("Seed", input("seed", { inputmode: "numeric", pattern: "\\d*", placeholder: "random" }), {
      pointer: "/seed",
    }),
    quality: field(
      "Quality",
      select("quality", [AS_THE_CARD, ...["fast", "balanced", "best"].map((one) => [one, one])]),
      { pointer: "/quality", hint: "Picks sampler, steps and spacing." },
    ),
    best_of: number("Best of", "best_of", { min: 1, step: 1, placeholder: "all" }, {
      hint: "Draw so many, keep the best.",
    }),
    first_index: number("First index", "first_index", { min: 0, step: 1, placeholder: "0" }),
    deadline_seconds: number("Deadline (s)", "deadline_seconds", { min: 0, step: "any", placeholder: "none" }),
  };
  const allFields = [...Object.values(fields), ...ofSettings];
  const problems = el("div", {});
  const draw = el("button", { type: "submit", class: "primary", disabled: true }, "Generate");
  const form = el(
    "form",
    { class: "card stack generate-form", novalidate: true, "aria-label": "What to draw", on: { submit } },
    el("div", { class: "fields" }, fields.model, fields.version),
    fields.class,
    el("div", { class: "fields" }, [fields.n, fields.seed, inFront]),
    el(
      "details",
      { class: "more" },
      el("summary", {}, "More"),
      el("div", { class: "fields" }, [
        fields.quality,
        fields.best_of,
        others,
        fields.first_index,
        fields.deadline_seconds,
      ]),
    ),
    problems,
    el(
      "div",
      { class: "actions" },
      draw,
      el("button", { type: "button", class: "quiet", on: { click: reset } }, "Empty all fields"),
    ),
  );
  const value = (member) => form.elements.namedItem(member).value.trim();
  const keep = keepDraft(form, DRAFT);
  fields.quality.control.addEventListener("change", showQuality);
  model.addEventListener("change", () => chooseModel(model.value));
  version.addEventListener("change", showVersion);
  filter.addEventListener("input", showClasses);

  async function load() {
    try {
      [models, requestImages] = await allModels(signal);
      fill(problems);
    } catch (error) {
      if (error.name !== "AbortError") fill(problems, problemNotice(error, { again: load, unasked: true }));
      return;
    }
    if (!models.length) {
      fill(
        problems,
        el(
          "div",
          { class: "notice" },
          el("p", { class: "notice-title" }, "There is no model yet"),
          el("p", {}, el("a", { href: "#/training/new" }, "Train one"), " and promote it."),
        ),
      );
      return;
    }
    fill(model, models.map((one) => el("option", { value: one.name }, one.name)));
    const [asked, askedVersion] = (query.get("model") || sessionStorage.getItem("darkroom-model") || "").split("@");
    const known = models.find((one) => one.name === asked) || models.find((one) => one.resident.length) || models[0];
    model.value = known.name;
    await chooseModel(known.name, known.name === asked ? askedVersion : "");
  }

  async function chooseModel(chosen, wantedVersion = "") {
    sessionStorage.setItem("darkroom-model", chosen);
    draw.disabled = true;
    try {
      detail = await get(`/v1/models/${encodeURIComponent(chosen)}`, { query: { limit: 200 }, signal });
    } catch (error) {
      if (error.name !== "AbortError") {
        fill(
          problems,
          problemNotice(error, { again: () => chooseModel(chosen, wantedVersion), unasked: true }),
        );
      }
      return;
    }
    fill(problems);
    const production = detail.aliases.production;
    fill(
      version,
      production && el("option", { value: "" }, `production (${production.version})`),
      detail.newest.filter((one) => one.kept).map((one) =>
        el("option", { value: String(one.version) }, `version ${one.version}`)
      ),
    );
    if (wantedVersion && [...version.options].some((one) => one.value === wantedVersion)) version.value = wantedVersion;
    showVersion();
  }

  function versionRow() {
    const wanted = version.value ? Number(version.value) : detail.aliases.production?.version;
    return detail.newest.find((one) => one.version === wanted) || null;
  }

  function classNames() {
    return versionRow()?.class_names || detail?.class_names || [];
  }

  function showVersion() {
    const card = detail.default_sampling;
    for (const one of ofSettings) one.showCard(card);
    const count = classNames().length;
    const stored = storedClasses(model.value);
    wantedClasses = new Set([...stored].filter((index) => index < count));
    if (!wantedClasses.size && count) wantedClasses.add(0);
    filter.hidden = count <= CLASSES_WITHOUT_FILTER;
    showClasses();
    draw.disabled = version.options.length === 0;
    if (!version.options.length) fields.version.fault("No version of it is kept.");
    else fields.version.fault(null);
  }

  function showClasses() {
    const wanted = filter.value.trim().toLocaleLowerCase();
    const found = classNames().map((text, index) => ({ text, index })).filter(({ text }) =>
      text.toLocaleLowerCase().includes(wanted)
    );
    fill(
      chips,
      found.slice(0, MOST_CLASSES_SHOWN).map(({ text, index }) =>
        el(
          "label",
          { class: "chip" },
          el("input", {
            type: "checkbox",
            "data-undrafted": "",
            checked: wantedClasses.has(index),
            on: { change: (event) => toggle(index, event.target.checked) },
          }),
          named(text),
        )
      ),
    );
    const rest = found.length - MOST_CLASSES_SHOWN;
    fill(
      chipTools,
      el("button", {
        type: "button",
        class: "quiet compact",
        on: { click: () => choose(found.map((one) => one.index)) },
      }, "All"),
      el("button", { type: "button", class: "quiet compact", on: { click: () => choose([]) } }, "None"),
      el(
        "span",
        { class: "soft" },
        `${wantedClasses.size} of ${classNames().length} chosen${rest > 0 ? `; ${rest} more match` : ""}`,
      ),
    );
  }

  function toggle(index, chosen) {
    if (chosen) wantedClasses.add(index);
    else wantedClasses.delete(index);
    keepClasses();
    chipTools.lastChild.textContent = `${wantedClasses.size} of ${classNames().length} chosen`;
  }

  function choose(indices) {
    wantedClasses = new Set(indices);
    keepClasses();
    fields.class.fault(null);
    showClasses();
  }

  function keepClasses() {
    sessionStorage.setItem(`darkroom-classes-${model.value}`, JSON.stringify([...wantedClasses]));
  }

  function showQuality() {
    const picks = value("quality") !== "";
    for (const one of ofSettings) one.control.disabled = picks && pickedByQuality.includes(one.setting);
  }

  function reset() {
    for (const control of form.elements) {
      if (control.name && control.dataset.undrafted === undefined && control.type !== "checkbox") {
        control.value = control.name === "n" ? "8" : "";
      }
    }
    keep();
    showQuality();
    fill(problems);
    for (const one of allFields) one.fault(null);
  }

  function submit(event) {
    event.preventDefault();
    fill(problems);
    for (const one of allFields) one.fault(null);
    const indices = [...wantedClasses].sort((one, other) => one - other);
    if (!indices.length) {
      fields.class.fault("Choose at least one class.");
      fields.class.querySelector("input[type=checkbox]")?.focus();
      return;
    }
    const most = Math.floor(requestImages / indices.length);
    for (const { control } of [fields.n, fields.best_of]) {
      control.setCustomValidity(
        Number(control.value) > most
          ? `One request may draw ${requestImages} images: at most ${most} of each of ${indices.length} classes.`
          : "",
      );
    }
    const faulty = allFields.find((one) => one.control.willValidate && !one.control.checkValidity());
    if (faulty) {
      faulty.closest("details")?.setAttribute("open", "");
      faulty.fault(faulty.control.validationMessage);
      faulty.control.focus();
      return;
    }
    onSubmit(requestOf(indices));
  }

  function requestOf(indices) {
    const names = classNames();
    const body = {
      class: indices.map((index) => names[index]),
      n: Number(value("n")),
      model: version.value ? `${model.value}@${version.value}` : model.value,
    };
    if (value("seed")) body.seed = BigInt(value("seed"));
    for (const member of ["best_of", "first_index", "deadline_seconds"]) {
      if (value(member)) body[member] = Number(value(member));
    }
    if (value("quality")) body.quality = value("quality");
    for (const one of ofSettings) {
      if (!one.control.disabled && one.isGiven()) body[one.setting] = one.given(detail.default_sampling);
    }
    const expected = indices.flatMap((index) =>
      Array.from({ length: body.n }, () => ({ class: names[index], class_index: index }))
    );
    return { body, title: indices.map((index) => names[index]), expected };
  }

  /** Faults of a refused request beside their fields; another problem below them. */
  form.faults = (problem, again) => {
    const leftOver = problem.status === 422 ? showFaults(allFields, problem) : [];
    if (problem.status !== 422 || leftOver.length || !problem.errors.length) {
      fill(problems, problemNotice(problem, { again: problem.status === 422 ? null : again, leftOver }));
    }
  };
  form.useSeed = (seed) => {
    form.elements.namedItem("seed").value = String(seed);
    keep();
  };
  restoreDraft(form, DRAFT);
  showQuality();
  load();
  document.addEventListener("serviceback", () => models.length || load(), { signal });
  return form;
}

/**
 * The field of a setting, by its schema. It has `setting`, its name; `showCard(card)`, which shows what is taken when it
 * is left empty; `isGiven()`, and `given(card)`, the value for a request.
 */
function settingField({ name: setting, label, schema }) {
  const more = { pointer: `/${setting}` };
  const [min, max] = [schema.minimum ?? schema.exclusiveMinimum, schema.maximum ?? schema.exclusiveMaximum];
  const properties = { title: schema.description };
  if (schema.type === "array") return pairField(setting, label, properties, more);
  const options = schema.type === "boolean" ? ["false", "true"] : schema.enum;
  const control = options ? select(setting, [AS_THE_CARD, ...options.map((one) => [one, one])], properties) : input(
    setting,
    schema.type === "string" ? properties : {
      ...properties,
      type: "number",
      inputmode: "decimal",
      min,
      max,
      step: schema.type === "integer" ? 1 : "any",
    },
  );
  const node = field(label, control, more);
  const read = { boolean: (text) => text === "true", string: (text) => text };
  node.showCard = (card) => {
    if (options) control.options[0].textContent = card ? `${card[setting] ?? "none"} (card)` : AS_THE_CARD[1];
    else control.placeholder = card ? String(card[setting] ?? "none") : "as the card";
  };
  node.isGiven = () => control.value !== "";
  node.given = () => (read[schema.type] || Number)(control.value.trim());
  return Object.assign(node, { setting });
}

/** A low and a high end; one that is left empty is the card's. */
function pairField(setting, label, properties, more) {
  const ends = ["low", "high"].map((end) =>
    input(`${setting}_${end}`, {
      ...properties,
      type: "number",
      step: "any",
      min: 0,
      "aria-label": `${end === "low" ? "Low" : "High"} end`,
    })
  );
  const node = group(label, el("div", { class: "row pair" }, ends), more);
  node.classList.add("wide");
  node.showCard = (card) =>
    ends.forEach((end, at) => (end.placeholder = String((card?.[setting] || ["low", "high"])[at])));
  node.isGiven = () => ends.some((end) => end.value !== "");
  node.given = (card) => ends.map((end, at) => Number(end.value || (card?.[setting] || EVERYWHERE)[at]));
  return Object.assign(node, { setting });
}

function storedClasses(model) {
  try {
    return JSON.parse(sessionStorage.getItem(`darkroom-classes-${model}`)) || [];
  } catch {
    return [];
  }
}

/** All of them, and how many images a request may draw. */
async function allModels(signal) {
  const found = [];
  let after = null;
  let requestImages;
  do {
    const page = await get("/v1/models", { query: { after, limit: 200 }, signal });
    found.push(...page.models);
    requestImages = page.request_images;
    after = page.next_after;
  } while (after !== null);
  return [found, requestImages];
}
