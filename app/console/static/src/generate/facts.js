/** What an answer says of how its images were drawn, and requests that make one of them again. */

import { toJson } from "../core/json.js";
import { currentKey } from "../core/key.js";

const NUMBERS = ["steps", "guidance", "percentile", "eta", "n", "first_index", "best_of"];
const LISTS = ["guidance_interval", "class_indices", "seeds", "indices", "choice"];
const WORDS = ["id", "model", "version", "sampler", "spacing", "guide", "threshold", "variance", "score"];

/** The facts in an answer's Darkroom-* headers. seed: a BigInt, exact however large. */
export function factsOf(headers) {
  const facts = {};
  const read = (name, as) => {
    const text = headers.get(`Darkroom-${name.replaceAll("_", "-")}`);
    facts[name] = text === null ? null : as(text);
  };
  for (const name of NUMBERS) read(name, Number);
  for (const name of LISTS) read(name, JSON.parse);
  for (const name of WORDS) read(name, (text) => (text.startsWith('"') ? JSON.parse(text) : text));
  read("seed", BigInt);
  if (facts.seeds) facts.seeds = headers.get("Darkroom-Seeds").match(/\d+/g).map(BigInt);
  return facts;
}

/** The settings that had an effect, as a request names them. */
export function settingsOf(facts) {
  const settings = { guidance: facts.guidance, steps: facts.steps, sampler: facts.sampler, spacing: facts.spacing, threshold: facts.threshold };
  if (facts.threshold === "dynamic") settings.percentile = facts.percentile;
  if (facts.guidance_interval) settings.guidance_interval = facts.guidance_interval;
  if (facts.guide && facts.guide !== "unconditional") settings.guide = facts.guide;
  if (facts.sampler === "ddim") settings.eta = facts.eta;
  if (facts.sampler === "ddpm") settings.variance = facts.variance;
  return { ...settings, model: `${facts.model}@${facts.version}` };
}

/** The request that makes exactly this image: {path, body, file}. */
export function requestFor(run, image) {
  const { facts } = run;
  if (run.kind === "interpolate") {
    const body = { class: [run.images[0].class, run.images.at(-1).class], seeds: facts.seeds, indices: facts.indices, count: run.images.length, ...settingsOf(facts), format: "zip" };
    return { path: "/v1/interpolate", body, file: `interpolation-${facts.id.slice(0, 8)}.zip` };
  }
  const body = { class: image.class, seed: facts.seed, first_index: image.index, n: 1, ...settingsOf(facts), format: "png" };
  return { path: "/v1/generate", body, file: fileName(run, image) };
}

/** A command line that sends it. */
export function curlFor(run, image) {
  const { path, body, file } = requestFor(run, image);
  const key = currentKey() ? ' -H "Authorization: Bearer $DARKROOM_KEY"' : "";
  const quoted = toJson(body).replaceAll("'", "'\\''");
  return `curl -sf ${location.origin}${path} -H 'Content-Type: application/json'${key} \\\n  -d '${quoted}' \\\n  -o '${file}'`;
}

/** What its file is called: safe on every system, in whatever script the class's name is. */
export function fileName(run, image) {
  const what = image.class.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 40) || `class-${image.class_index}`;
  return `${what}-${run.facts.seed}-${image.index}.png`;
}
