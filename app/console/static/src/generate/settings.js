/** The sampling settings as the service describes them. The form, the facts of an image and the requests use them. */

import { description } from "../core/openapi.js";

/** All settings: {name, label, schema}. */
export let settings = [];

/** Names of the settings that `quality` chooses. */
export let pickedByQuality = [];

/** Reads them from the service, once a tab. */
export async function loadSettings() {
  if (settings.length) return;
  const { schemas } = (await description()).components;
  pickedByQuality = schemas.GenerateRequest.properties.quality["x-picks"];
  settings = Object.entries(schemas.SamplingConfig.properties).map(([name, schema]) => {
    const words = name.replaceAll("_", " ");
    const valued = schema.anyOf?.find((one) => one.type !== "null"); // the type of a setting that may be null
    return { name, label: words[0].toUpperCase() + words.slice(1), schema: { ...valued, ...schema } };
  });
}

/** Returns the settings in these facts that had an effect, by name. */
export function effective(facts) {
  const found = {};
  for (const { name, schema } of settings) {
    const needs = Object.entries(schema["x-only-with"] || {});
    if (facts[name] !== undefined && needs.every(([other, values]) => values.includes(facts[other]))) {
      found[name] = facts[name];
    }
  }
  return found;
}

/** Returns these facts with a sampler that adds no noise, as an interpolation needs it. */
export function deterministic(facts) {
  const noisy = settings.find(({ name }) => name === "sampler").schema["x-adds-noise"];
  return { ...facts, sampler: noisy.includes(facts.sampler) ? "ddim" : facts.sampler, eta: 0 };
}
