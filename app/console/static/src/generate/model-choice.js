/** The choice of a model and of one of its versions. */

import { field, options, select } from "../components/fields.js";
import { notice, showProblem } from "../components/states.js";
import { cautionOf } from "../components/verdict.js";
import { get, pagesOf } from "../core/api.js";
import { el, fill } from "../core/dom.js";
import { drawnClasses, versionPath } from "../models/versions.js";

const LAST = "darkroom-model";
const NOT_KEPT = "The version of this link is not kept any more.";

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
  let chosen = null; // the version, as GET /v1/models/NAME/versions/VERSION describes it

  const reference = () => (version.value ? `${model.value}@${version.value}` : model.value);

  async function load() {
    let first;
    try {
      [models, first, requestImages] = await allModels(signal);
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
    const names = models.map((one) => one.name);
    model.value = [asked, first].find((name) => names.includes(name)) ?? names[0];
    await choose(model.value === asked ? askedVersion : "");
  }

  /** Reads the versions of the chosen model. wanted: a version's number or digest; else the first of the choice. */
  async function choose(wanted = "") {
    chosen = null;
    onChange();
    let detail;
    try {
      detail = await get(`/v1/models/${encodeURIComponent(model.value)}`, { query: { limit: 200 }, signal });
    } catch (error) {
      showProblem(problems, error, { again: () => choose(wanted), unasked: true });
      return;
    }
    fill(version, options(versionsOf(detail)));
    const number = detail.newest.find((one) => one.kept && [String(one.version), one.digest].includes(wanted))?.version;
    if (number) version.value = String(number);
    versionField.fault(version.options.length ? wanted && !number && NOT_KEPT : "No version of this model is kept.");
    await look();
  }

  /** Reads the chosen version. */
  async function look() {
    sessionStorage.setItem(LAST, reference());
    chosen = null;
    versionField.hint(null);
    onChange();
    if (!version.options.length) return;
    const asked = reference();
    try {
      const found = await get(versionPath(model.value, version.value || "production"), { signal });
      if (asked !== reference()) return; // the user has chosen another one meanwhile
      chosen = { ...found, class_names: drawnClasses(found) };
      versionField.hint(cautionOf(found));
    } catch (error) {
      showProblem(problems, error, { again: look, unasked: true });
      return;
    }
    fill(problems);
    onChange();
  }

  model.addEventListener("change", () => choose());
  version.addEventListener("change", look);
  document.addEventListener("serviceback", () => models.length || load(), { signal });
  return {
    load,
    model: modelField,
    version: versionField,
    name: () => model.value,
    reference,
    chosen: () => chosen,
    requestImages: () => requestImages,
  };
}

/** Returns the options of the versions that are kept, production first. */
function versionsOf({ aliases: { production }, newest }) {
  const kept = newest.filter((one) => one.kept).map((one) => [String(one.version), `version ${one.version}`]);
  return production ? [["", `production (${production.version})`], ...kept] : kept;
}

/** Returns all models, the name of the default model, and how many images one request may draw. */
async function allModels(signal) {
  const found = [];
  let last;
  for await (const page of pagesOf("/v1/models", { signal })) {
    found.push(...page.models);
    last = page;
  }
  return [found, last.default_model, last.request_images];
}
