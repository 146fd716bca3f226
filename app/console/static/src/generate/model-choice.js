/** The choice of a model and of one of its versions. */

import { field, options, select } from "../components/fields.js";
import { notice, showProblem } from "../components/states.js";
import { get, pagesOf } from "../core/api.js";
import { el, fill } from "../core/dom.js";

const LAST = "darkroom-model";

/**
 * Makes the fields `model` and `version`, and reads the models. problems: where errors are shown.
 * onChange: called when another version is chosen, and when a model is being read or has no version.
 */
export function modelChoice({ query, signal, problems, onChange }) {
  const undrafted = { "data-undrafted": "" }; // this choice is no part of the form's draft
  const model = select("model", [], undrafted);
  const version = select("version", [["", "production"]], undrafted);
  const modelField = field("Model", model, { pointer: "/model", wide: true });
  const versionField = field("Version", version);
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
    const [asked, askedVersion] = (query.get("model") || sessionStorage.getItem(LAST) || "").split("@");
    const first = (test) => models.find(test);
    const { name } = first((one) => one.name === asked) || first((one) => one.resident.length) || models[0];
    model.value = name;
    await choose(name, name === asked ? askedVersion : "");
  }

  async function choose(name, wanted = "") {
    sessionStorage.setItem(LAST, name);
    detail = null;
    onChange();
    try {
      detail = await get(`/v1/models/${encodeURIComponent(name)}`, { query: { limit: 200 }, signal });
    } catch (error) {
      showProblem(problems, error, { again: () => choose(name, wanted), unasked: true });
      return;
    }
    fill(problems);
    fill(version, options(versionsOf(detail)));
    if (wanted && [...version.options].some((one) => one.value === wanted)) version.value = wanted;
    versionField.fault(version.options.length ? null : "No version of this model is kept.");
    onChange();
  }

  function classNames() {
    const wanted = version.value ? Number(version.value) : detail.aliases.production?.version;
    return detail.newest.find((one) => one.version === wanted)?.class_names || detail.class_names || [];
  }

  model.addEventListener("change", () => choose(model.value));
  version.addEventListener("change", onChange);
  document.addEventListener("serviceback", () => models.length || load(), { signal });
  return {
    load,
    model: modelField,
    version: versionField,
    isRead: () => detail !== null,
    hasVersion: () => detail !== null && version.options.length > 0,
    name: () => model.value,
    reference: () => (version.value ? `${model.value}@${version.value}` : model.value),
    card: () => detail.default_sampling,
    requestImages: () => requestImages,
    classNames,
  };
}

/** Returns the options of the versions that are kept, production first. */
function versionsOf({ aliases: { production }, newest }) {
  const kept = newest.filter((one) => one.kept).map((one) => [String(one.version), `version ${one.version}`]);
  return production ? [["", `production (${production.version})`], ...kept] : kept;
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
