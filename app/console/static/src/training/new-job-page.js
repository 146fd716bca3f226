/** The form that starts a training job, or a sweep of them. */

import { get, put } from "../core/api.js";
import { el, fill } from "../core/dom.js";
import { whole } from "../core/format.js";
import { currentKey } from "../core/key.js";
import { dropDraft, keepDraft, restoreDraft } from "../components/draft.js";
import { field, input, select, showFaults } from "../components/fields.js";
import { loading, problemNotice } from "../components/states.js";
import { trainingNav } from "../components/sub-nav.js";
import { assignmentsOf, gridOf } from "./assignments.js";

const DRAFT = "new-job";

/** Fields of the form that are fields of the recipe. */
const OVERRIDES = [
  ["training.total_images", "Images to train on", { type: "number", min: 1, step: 1 }],
  ["training.batch_size", "Batch size", { type: "number", min: 1, step: 1 }],
  ["optimizer.learning_rate", "Learning rate", { type: "number", min: 0, step: "any" }],
  ["training.seed", "Seed", { type: "number", min: 0, step: 1 }],
  ["training.checkpoint_every_images", "Checkpoint every (images)", { type: "number", min: 1, step: 1 }],
  ["training.sample_every_images", "Samples every (images)", { type: "number", min: 1, step: 1 }],
];

export const newJobPage = {
  title: () => "New training job",
  async render(main, { query, signal }) {
    const place = el("div", {}, loading("Loading recipes and data sets"));
    fill(
      main,
      trainingNav("#/training/new"),
      el("div", { class: "page-head" }, el("h1", {}, "New training job")),
      place,
    );
    const begin = async () => {
      try {
        const [recipes, datasets] = await Promise.all([get("/v1/recipes", { signal }), allDatasets(signal)]);
        fill(place, jobForm({ recipes: recipes.recipes, datasets, query, signal }));
      } catch (error) {
        if (error.name !== "AbortError") fill(place, problemNotice(error, { again: begin, unasked: true }));
      }
    };
    await begin();
  },
};

function jobForm({ recipes, datasets, query, signal }) {
  const short = (options) => options.map((one) => [one, one]);
  const fields = {
    recipe: field("Recipe", select("recipe", recipes.map((one) => [one.name, one.name])), { pointer: "/recipe" }),
    dataset: field(
      "Data set",
      select("dataset", [["", "the recipe's own"], ...short(datasets.map((one) => one.name))]),
      { pointer: "/dataset" },
    ),
    model: field("Name of the model", input("model", { maxlength: 63 }), {
      pointer: "/model",
      hint: "Small letters, digits, dots, dashes.",
    }),
    promote: field(
      "Promotion",
      select("promote", [["never", "by hand"], ["best", "the best checkpoint, when it ends"]]),
      { pointer: "/promote", hint: currentKey() && "Promotion needs a key with the scope admin." },
    ),
  };
  for (const [dotted, label, properties] of OVERRIDES) {
    fields[dotted] = field(label, input(dotted, properties), { pointer: `/overrides/${dotted}` });
  }
  fields.evaluate_every_images = field(
    "Evaluate every (images)",
    input("evaluate_every_images", { type: "number", min: 1, step: 1 }),
    { pointer: "/evaluate_every_images" },
  );
  Object.assign(fields, {
    device: field("Device", select("device", short(["auto", "cpu", "cuda"])), { pointer: "/device" }),
    priority: field("Priority", input("priority", { type: "number", min: -100, max: 100, step: 1, placeholder: "0" }), {
      pointer: "/priority",
      hint: "Higher ones run first.",
    }),
    max_attempts: field("Attempts", input("max_attempts", { type: "number", min: 1, max: 100, placeholder: "3" }), {
      pointer: "/max_attempts",
    }),
    keep_last: field("Checkpoints kept", input("keep_last", { type: "number", min: 1, max: 1000, placeholder: "3" }), {
      pointer: "/keep_last",
    }),
    from_job: field("Go on from job", input("from_job", { type: "number", min: 1, placeholder: "none" }), {
      pointer: "/from_job",
    }),
    from_model: field("Begin with the weights of", input("from_model", { placeholder: "NAME@VERSION" }), {
      pointer: "/from_model",
    }),
    overrides: field(
      "Other fields of the recipe",
      el("textarea", {
        name: "overrides",
        rows: 4,
        spellcheck: "false",
        placeholder: "model.unet.width = 64\nobjective.weighting = min_snr",
      }),
      { pointer: "/overrides", wide: true, hint: "One a line: dotted.name = value." },
    ),
    sweep: field("Name of the sweep", input("sweep", { dir: "auto", maxlength: 200 }), { pointer: "/name" }),
    seeds: field("Seeds", input("seeds", { placeholder: "1, 2, 3" }), { pointer: "/seeds" }),
    grid: field(
      "Values to compare",
      el("textarea", {
        name: "grid",
        rows: 3,
        spellcheck: "false",
        placeholder: "optimizer.learning_rate = 0.001, 0.002",
      }),
      {
        pointer: "/grid",
        wide: true,
        hint: "One field a line, its values divided by commas. Every combination becomes a job.",
      },
    ),
  });
  const about = el("p", { class: "soft small wide" });
  const problems = el("div", {});
  const start = el("button", { type: "submit", class: "primary" }, "Start training");
  const sweepPart = el(
    "details",
    { class: "more" },
    el("summary", {}, "Compare several values (a sweep)"),
    el("div", { class: "fields" }, fields.sweep, fields.seeds, fields.grid),
  );
  const usual = OVERRIDES.map(([dotted]) => fields[dotted]);
  const form = el(
    "form",
    { class: "stack", novalidate: true, "aria-label": "New training job", on: { submit } },
    el(
      "section",
      { class: "card stack", "aria-label": "What" },
      el("div", { class: "fields wide-fields" }, fields.recipe, fields.dataset, fields.model, fields.promote, about),
    ),
    el(
      "section",
      { class: "card stack", "aria-label": "How" },
      el("h2", {}, "Usual changes"),
      el("p", { class: "soft small" }, "What is left empty is as in the recipe."),
      el("div", { class: "fields wide-fields" }, usual, fields.evaluate_every_images),
    ),
    el(
      "section",
      { class: "card stack", "aria-label": "More" },
      el(
        "details",
        { class: "more" },
        el("summary", {}, "More"),
        el(
          "div",
          { class: "fields wide-fields" },
          fields.device,
          fields.priority,
          fields.max_attempts,
          fields.keep_last,
          fields.from_job,
          fields.from_model,
          fields.overrides,
        ),
      ),
      sweepPart,
    ),
    problems,
    el(
      "div",
      { class: "actions" },
      start,
      el("button", { type: "button", class: "quiet", on: { click: empty } }, "Empty all fields"),
    ),
  );
  const value = (member) => form.elements.namedItem(member).value.trim();
  const keep = keepDraft(form, DRAFT);
  // the same key for the same form: sent twice, it creates one job
  let idempotency = freshKey();
  form.addEventListener("input", () => {
    idempotency = freshKey();
  });
  for (const member of ["recipe", "dataset"]) fields[member].control.addEventListener("change", showRecipe);

  const recipeNow = () => recipes.find((one) => one.name === value("recipe"));
  const datasetNow = () => datasets.find((one) => one.name === value("dataset"));

  function showRecipe() {
    const recipe = recipeNow();
    if (!recipe) return;
    const config = recipe.configuration;
    for (const [dotted] of OVERRIDES) fields[dotted].control.placeholder = String(at(config, dotted));
    fields.evaluate_every_images.control.placeholder = config.evaluation
      ? String(config.evaluation.every_images)
      : "never";
    fields.model.control.placeholder = recipe.name;
    const { image_channels: channels, image_size: side } = config.model;
    fill(
      about,
      `${recipe.description} For images of ${channels}×${side}×${side}; ${
        whole(config.training.total_images)
      } images to train on.`,
      fitting(channels, side),
    );
  }

  function fits(recipe) {
    const { image_channels: channels, image_size: side } = recipe.configuration.model;
    const shape = datasetNow()?.image_shape;
    return Boolean(shape) && shape[0] === channels && shape[1] === side;
  }

  /** What to change where the data set's images have another form than the recipe's. */
  function fitting(channels, side) {
    const dataset = datasetNow();
    if (!dataset) return null;
    const [theirChannels, theirSide] = dataset.image_shape;
    if (theirChannels === channels && theirSide === side) return null;
    const lines = [];
    if (theirChannels !== channels) lines.push(`model.image_channels = ${theirChannels}`);
    if (theirSide !== side) lines.push(`model.image_size = ${theirSide}`);
    return [
      ` The data set's images are ${theirChannels}×${theirSide}×${theirSide}. `,
      el("button", { type: "button", class: "compact", on: { click: () => fit(lines) } }, "Fit the recipe to them"),
    ];
  }

  function fit(lines) {
    const control = fields.overrides.control;
    const others = control.value.split("\n").filter((line) =>
      line.trim() && !/^model\.(unet\.)?image_(channels|size)\s*=/.test(line.trim())
    );
    control.value = [...others, ...lines].join("\n");
    control.closest("details").open = true;
    control.focus();
    keep();
  }

  function empty() {
    form.reset();
    dropDraft(DRAFT);
    showRecipe();
    fill(problems);
    for (const one of Object.values(fields)) one.fault(null);
  }

  function bodyOf() {
    const body = { recipe: value("recipe"), overrides: {}, promote: value("promote"), device: value("device") };
    for (const [dotted] of OVERRIDES) if (value(dotted) !== "") body.overrides[dotted] = Number(value(dotted));
    Object.assign(body.overrides, assignmentsOf(value("overrides")));
    for (const member of ["dataset", "model", "from_model"]) if (value(member)) body[member] = value(member);
    for (const member of ["priority", "max_attempts", "keep_last", "from_job", "evaluate_every_images"]) {
      if (value(member) !== "") body[member] = Number(value(member));
    }
    return body;
  }

  async function submit(event) {
    event.preventDefault();
    fill(problems);
    for (const one of Object.values(fields)) one.fault(null);
    let body;
    let isSweep;
    try {
      body = bodyOf();
      const grid = gridOf(value("grid"));
      const seeds = value("seeds").split(/[\s,]+/).filter(Boolean).map(Number);
      isSweep = Object.keys(grid).length > 0 || seeds.length > 0;
      if (isSweep) {
        Object.assign(
          body,
          { name: value("sweep") || `${value("model") || value("recipe")} sweep`, grid },
          seeds.length ? { seeds } : {},
        );
      }
    } catch (fault) {
      const one = fields[fault.field];
      one.fault(fault.message);
      one.closest("details").open = true;
      one.control.focus();
      return;
    }
    start.disabled = true;
    try {
      const made = await put("POST", isSweep ? "/v1/sweeps" : "/v1/train-jobs", body, {
        signal,
        headers: { "Idempotency-Key": idempotency },
      });
      dropDraft(DRAFT);
      location.hash = isSweep ? `#/training/sweeps/${made.id}` : `#/training/jobs/${made.id}`;
    } catch (error) {
      if (error.name === "AbortError") return;
      const hasPlaces = error.errors?.length > 0;
      const leftOver = hasPlaces ? showFaults(Object.values(fields), error) : [];
      if (!hasPlaces || leftOver.length) fill(problems, problemNotice(error, { leftOver }));
    } finally {
      start.disabled = false;
    }
  }
  fields.recipe.control.value = quickest(recipes);
  restoreDraft(form, DRAFT);
  if (query.get("dataset")) {
    fields.dataset.control.value = query.get("dataset");
    fields.recipe.control.value = quickest(recipes.filter(fits)) || value("recipe");
  }
  sweepPart.open ||= query.has("sweep") || ["sweep", "seeds", "grid"].some((member) => value(member));
  showRecipe();
  return form;
}

async function allDatasets(signal) {
  const found = [];
  let after = null;
  do {
    const page = await get("/v1/datasets", { query: { after, limit: 200 }, signal });
    found.push(...page.datasets);
    after = page.next_after;
  } while (after !== null);
  return found;
}

/** The recipe that is over first. */
const quickest = (recipes) =>
  [...recipes].sort((one, other) =>
    one.configuration.training.total_images - other.configuration.training.total_images
  )[0]?.name || "";

const at = (config, dotted) => dotted.split(".").reduce((here, part) => here?.[part], config) ?? "";

/** Not randomUUID, which a page over plain HTTP does not have. */
function freshKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
