/** The settings of sampling as the service describes them: the form, what is shown of an image, and requests follow. */

import { description } from "../core/openapi.js";

/** All of them: {name, label, schema}. */
export let settings = [];

/** Names of those that `quality` picks. */
export let pickedByQuality = [];

/** Learn them, once a tab. */
export async function loadSettings() {
  if (settings.length) return;
  const { schemas } = (await description()).components;
  pickedByQuality = schemas.GenerateRequest.properties.quality["x-picks"];
  settings = Object.entries(schemas.SamplingConfig.properties).map(([name, schema]) => {
    const words = name.replaceAll("_", " ");
    const valued = schema.anyOf?.find((one) => one.type !== "null"); // of those that may be null
    return { name, label: words[0].toUpperCase() + words.slice(1), schema: { ...valued, ...schema } };
  });
}

/** The settings of these facts that had an effect, by name. */
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

/** These facts without noise on the way, as an interpolation needs them. */
export function deterministic(facts) {
  const noisy = settings.find(({ name }) => name === "sampler").schema["x-adds-noise"];
  return { ...facts, sampler: noisy.includes(facts.sampler) ? "ddim" : facts.sampler, eta: 0 };
}
