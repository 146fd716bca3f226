/** The form that starts a training job, or a sweep of them. */

import { button } from "../components/button.js";
import { dropDraft, keepDraft } from "../components/draft.js";
import { clearFaults, filledIn, refuse, showFaults } from "../components/fields.js";
import { showProblem } from "../components/states.js";
import { put } from "../core/api.js";
import { el, fill } from "../core/dom.js";
import { whole } from "../core/format.js";
import { numberOf } from "../core/json.js";
import { assignmentsOf, gridOf, LineFault } from "./assignments.js";
import { jobFields, OVERRIDES } from "./job-fields.js";
import { planPart } from "./plan-part.js";

const DRAFT = "new-job";
const TEXTS = ["recipe", "dataset", "model", "promote", "device", "from_model"];
const NUMBERS = ["priority", "max_attempts", "keep_last", "from_job", "evaluate_every_images"];

/** Makes the form. query: of the page's address. It may name a data set, or ask for a sweep. */
export function jobForm({ recipes, datasets, query, signal }) {
  const fields = jobFields(recipes, datasets);
  const allFields = Object.values(fields);
  const about = el("p", { class: "soft small wide" });
  const plan = planPart({ wanted: toPlan, onPlan: ({ recipe, model }) => showValues(recipe, model), signal });
  const problems = el("div", {});
  const start = el("button", { type: "submit", class: "primary" }, "Start training");
  const actions = [start, button("Empty all fields", empty, { class: "quiet" })];
  const form = layout(fields, about, plan.node, problems, actions);
  const value = (member) => form.elements.namedItem(member).value.trim();
  const keep = keepDraft(form, DRAFT);
  // The key stays while the form does not change, so that a form that is sent twice makes one job.
  let idempotency = freshKey();
  form.addEventListener("submit", submit);
  form.addEventListener("input", () => {
    idempotency = freshKey();
  });

  const hasRecipe = () => ["recipe", "from_job", "from_model"].some(value);
  const datasetNow = () => datasets.find((one) => one.name === value("dataset"));

  /** Returns what there is to plan; null with a recipe, also that of a job or a model, or without data set or time. */
  function toPlan() {
    const [dataset, minutes] = [value("dataset"), Number(value("minutes"))];
    return hasRecipe() || !dataset || !(minutes > 0) ? null : { dataset, minutes, device: value("device") };
  }

  /** Shows a recipe's values as what empty fields mean. */
  function showValues(config, model) {
    for (const { dotted } of OVERRIDES) fields[dotted].control.placeholder = String(at(config, dotted));
    const { evaluation } = config;
    fields.evaluate_every_images.control.placeholder = evaluation ? String(evaluation.every_images) : "never";
    fields.model.control.placeholder = model;
  }

  function showRecipe() {
    plan.look();
    const recipe = recipes.find((one) => one.name === value("recipe"));
    fields.minutes.hidden = hasRecipe();
    if (!recipe) {
      const planned = "Darkroom makes the recipe from the data set, the time and the speed of your worker.";
      fill(about, hasRecipe() ? "The recipe is that of the job or the model that this one starts from." : planned);
      return;
    }
    const { configuration: config, description } = recipe;
    showValues(config, recipe.name);
    const { training, model } = config;
    const images = sizeOf(model.image_channels, model.image_size);
    const text = `${description} For images of ${images}; trains on ${whole(training.total_images)} images.`;
    fill(about, text, fitting(model, datasetNow()?.image_shape));
  }

  /** Offers to change the recipe when the data set's images are smaller, or have another number of channels. */
  function fitting({ image_channels: channels, image_size: side }, shape) {
    if (!shape) return null;
    const lines = [
      shape[0] !== channels && `model.image_channels = ${shape[0]}`,
      shape[1] < side && `model.image_size = ${shape[1]}`,
    ].filter(Boolean);
    if (!lines.length) return null;
    const text = ` The data set's images are ${sizeOf(shape[0], shape[1])}. `;
    return [text, button("Fit the recipe to them", () => fit(lines), { class: "compact" })];
  }

  function fit(lines) {
    const { control } = fields.overrides;
    const isOther = (line) => line.trim() && !/^\s*model\.(unet\.)?image_(channels|size)\s*=/.test(line);
    control.value = [...control.value.split("\n").filter(isOther), ...lines].join("\n");
    control.closest("details").open = true;
    control.focus();
    keep();
  }

  function empty() {
    form.reset();
    dropDraft(DRAFT);
    showRecipe();
    fill(problems);
    clearFaults(allFields);
  }

  /** Returns {path, page, body} of the request that the form stands for. Raises LineFault. */
  function requestOf() {
    const usual = filledIn(form, OVERRIDES.map(({ dotted }) => dotted), numberOf);
    const body = {
      overrides: { ...usual, ...assignmentsOf(value("overrides")) },
      ...filledIn(form, TEXTS),
      ...filledIn(form, NUMBERS, Number),
      ...(value("long") ? { long: true } : {}),
    };
    const grid = gridOf(value("grid"));
    const seeds = value("seeds").split(/[\s,]+/).filter(Boolean).map(numberOf);
    if (!Object.keys(grid).length && !seeds.length) {
      const minutes = hasRecipe() ? {} : { minutes: Number(value("minutes")) };
      return { path: "/v1/train-jobs", page: "jobs", body: { ...body, ...minutes } };
    }
    if (!value("recipe")) throw new LineFault("recipe", "Choose a recipe: a sweep is not planned.");
    const name = value("sweep") || `${value("model") || value("recipe")} sweep`;
    const sweep = { ...body, name, grid, ...(seeds.length ? { seeds } : {}) };
    return { path: "/v1/sweeps", page: "sweeps", body: sweep };
  }

  async function submit(event) {
    event.preventDefault();
    fill(problems);
    clearFaults(allFields);
    start.disabled = true;
    try {
      const { path, page, body } = requestOf();
      const made = await put("POST", path, body, { signal, headers: { "Idempotency-Key": idempotency } });
      dropDraft(DRAFT);
      location.hash = `#/training/${page}/${made.id}`;
    } catch (error) {
      showRefusal(error);
    } finally {
      start.disabled = false;
    }
  }

  function showRefusal(error) {
    if (error instanceof LineFault) {
      refuse(fields[error.field], error.message);
      return;
    }
    const leftOver = error.errors?.length ? showFaults(allFields, error) : [];
    if (!error.errors?.length || leftOver.length) showProblem(problems, error, { leftOver });
  }

  for (const one of ["recipe", "dataset", "device", "from_job", "from_model"]) {
    fields[one].control.addEventListener("change", showRecipe);
  }
  fields.minutes.control.addEventListener("input", plan.look);
  if (query.get("dataset")) fields.dataset.control.value = query.get("dataset");
  if (query.has("sweep") && !value("recipe")) fields.recipe.control.value = quickest(recipes);
  if (query.has("sweep") || ["sweep", "seeds", "grid"].some(value)) fields.sweep.closest("details").open = true;
  fields.recipe.closest("details").open = Boolean(value("recipe"));
  showRecipe();
  return form;
}

function layout(fields, about, plan, problems, actions) {
  const grid = (...its) => el("div", { class: "fields wide-fields" }, its);
  const card = (label, ...content) => el("section", { class: "card stack", "aria-label": label }, content);
  const more = (title, content) => el("details", { class: "more" }, el("summary", {}, title), content);
  const { recipe, dataset, minutes, model, promote } = fields;
  const usual = [...OVERRIDES.map(({ dotted }) => fields[dotted]), fields.evaluate_every_images];
  const { device, priority, max_attempts, keep_last, from_job, from_model, long, overrides } = fields;
  const sweep = el("div", { class: "fields" }, fields.sweep, fields.seeds, fields.grid);
  return el(
    "form",
    { class: "stack", novalidate: true, "aria-label": "New training job" },
    card("What", grid(dataset, minutes), about, plan, problems, el("div", { class: "actions" }, actions)),
    el(
      "details",
      { class: "card more" },
      el("summary", {}, "Change"),
      el(
        "div",
        { class: "stack" },
        grid(recipe, model, promote),
        el("h2", {}, "Usual changes"),
        el("p", { class: "soft small" }, "An empty field keeps the value of the plan or the recipe."),
        grid(usual),
        more("More", grid(device, priority, max_attempts, keep_last, from_job, from_model, long, overrides)),
        more("Compare several values (a sweep)", sweep),
      ),
    ),
  );
}

const sizeOf = (channels, side) => `${channels}×${side}×${side}`;

/** Returns the name of the recipe that trains on the fewest images. */
function quickest(recipes) {
  const images = (recipe) => recipe.configuration.training.total_images;
  return [...recipes].sort((one, other) => images(one) - images(other))[0]?.name || "";
}

const at = (config, dotted) => dotted.split(".").reduce((here, part) => here?.[part], config) ?? "";

/** Makes a random key. A page over plain HTTP has no crypto.randomUUID. */
function freshKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
