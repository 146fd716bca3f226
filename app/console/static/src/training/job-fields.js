/** The fields of the form that starts a training job. */

import { field, input, select, textarea } from "../components/fields.js";
import { currentKey } from "../core/key.js";

/** Fields of the form that are fields of the recipe. */
export const OVERRIDES = [
  { dotted: "training.total_images", label: "Images to train on", properties: { min: 1, step: 1 } },
  { dotted: "training.batch_size", label: "Batch size", properties: { min: 1, step: 1 } },
  { dotted: "optimizer.learning_rate", label: "Learning rate", properties: { min: 0, step: "any" } },
  { dotted: "training.seed", label: "Seed", properties: { min: 0, step: 1 } },
  { dotted: "training.checkpoint_every_images", label: "Checkpoint every (images)", properties: { min: 1, step: 1 } },
  { dotted: "training.sample_every_images", label: "Samples every (images)", properties: { min: 1, step: 1 } },
];

const PROMOTIONS = [
  ["", "best, when planned"],
  ["never", "by hand"],
  ["best", "the best checkpoint, when the job ends"],
];

const OTHER_FIELDS = "model.unet.width = 64\nobjective.weighting = min_snr";
const COMBINED = "One field on each line, with commas between its values. Each combination becomes a job.";
const NEEDS_ADMIN = "Promotion needs a key with the scope admin.";

/** Makes all fields. Returns them by name. */
export function jobFields(recipes, datasets) {
  const names = (list) => list.map((one) => one.name);
  const datasetNames = [["", "choose one (a recipe may have its own)"], ...names(datasets)];
  const recipeNames = [["", "planned"], ...names(recipes)];
  return Object.fromEntries([
    member("dataset", "Data set", select("dataset", datasetNames)),
    number("minutes", "Minutes", { min: 0, step: "any", value: 45 }, {
      hint: "Time that the training may take. The clock ends it.",
    }),
    member("recipe", "Recipe", select("recipe", recipeNames)),
    text("model", "Name of the model", { maxlength: 63 }, { hint: "Lower-case letters, digits, dots, dashes." }),
    member("promote", "Promotion", select("promote", PROMOTIONS), { hint: currentKey() && NEEDS_ADMIN }),
    ...OVERRIDES.map(({ dotted, label, properties }) =>
      number(dotted, label, properties, { pointer: `/overrides/${dotted}` })
    ),
    number("evaluate_every_images", "Evaluate every (images)", { min: 1, step: 1 }),
    member("device", "Device", select("device", ["auto", "cpu", "cuda"])),
    number("priority", "Priority", { min: -100, max: 100, step: 1, placeholder: "0" }, {
      hint: "Higher ones run first.",
    }),
    number("max_attempts", "Attempts", { min: 1, max: 100, placeholder: "3" }),
    number("keep_last", "Checkpoints kept", { min: 1, max: 1000, placeholder: "3" }),
    number("from_job", "Continue job", { min: 1, placeholder: "none" }),
    text("from_model", "Start with the weights of", { placeholder: "NAME@VERSION" }),
    member("long", "More than a day", select("long", [["", "ask me"], ["yes", "run it anyway"]])),
    lines("overrides", "Other fields of the recipe", 4, OTHER_FIELDS, "One on each line: dotted.name = value."),
    text("sweep", "Name of the sweep", { dir: "auto", maxlength: 200 }, { pointer: "/name" }),
    text("seeds", "Seeds", { placeholder: "1, 2, 3" }),
    lines("grid", "Values to compare", 3, "optimizer.learning_rate = 0.001, 0.002", COMBINED),
  ]);
}

/** Makes a field that fills the request's member of that name, unless `more` names another one. */
function member(name, label, control, more = {}) {
  return [name, field(label, control, { pointer: `/${name}`, ...more })];
}

const text = (name, label, properties, more) => member(name, label, input(name, properties), more);

const number = (name, label, properties, more) => text(name, label, { type: "number", ...properties }, more);

function lines(name, label, rows, placeholder, hint) {
  return member(name, label, textarea(name, { rows, placeholder }), { wide: true, hint });
}
