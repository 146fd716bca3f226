/** The settings of sampling as the service describes them: the form, what is shown of an image, and requests follow. */

import { get } from "../core/api.js";

const ONLY_WITH = { percentile: ["threshold", "dynamic"], eta: ["sampler", "ddim"], variance: ["sampler", "ddpm"] };

/** All of them: {name, label, schema}. */
export let settings = [];

/** Names of those that `quality` picks. */
export let pickedByQuality = [];

/** Learn them, once a tab. */
export async function loadSettings(signal) {
  if (settings.length) return;
  const { schemas } = (await get("/openapi.json", { signal })).components;
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
  for (const { name } of settings) {
    const [other, wanted] = ONLY_WITH[name] || [];
    if (facts[name] !== undefined && (!other || facts[other] === wanted)) found[name] = facts[name];
  }
  return found;
}
