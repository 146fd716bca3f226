/** What an answer says of how its images were drawn, and requests that make one of them again. */

import { toJson } from "../core/json.js";
import { currentKey } from "../core/key.js";
import { effective } from "./settings.js";

const WORDS = ["id", "model", "version"]; // though they may look like numbers

/** The facts in an answer's Darkroom-* headers. seed: a BigInt, exact however large. */
export function factsOf(headers) {
  const facts = {};
  for (const [header, text] of headers) {
    if (!header.startsWith("darkroom-")) continue;
    const name = header.slice("darkroom-".length).replaceAll("-", "_");
    facts[name] = WORDS.includes(name) ? text : valueOf(text);
  }
  facts.seed = BigInt(headers.get("Darkroom-Seed"));
  if (facts.seeds) facts.seeds = headers.get("Darkroom-Seeds").match(/\d+/g).map(BigInt);
  return facts;
}

function valueOf(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** The settings that had an effect and the model, as a request names them. */
export const settingsOf = (facts) => ({ ...effective(facts), model: `${facts.model}@${facts.version}` });

/** The request that makes exactly this image: {path, body, file}. */
export function requestFor(run, image) {
  const { facts } = run;
  if (run.kind === "interpolate") {
    const body = {
      class: [run.images[0].class, run.images.at(-1).class],
      seeds: facts.seeds,
      indices: facts.indices,
      count: run.images.length,
      ...settingsOf(facts),
      format: "zip",
    };
    return { path: "/v1/interpolate", body, file: `interpolation-${facts.id.slice(0, 8)}.zip` };
  }
  const body = {
    class: image.class,
    seed: facts.seed,
    first_index: image.index,
    n: 1,
    ...settingsOf(facts),
    format: "png",
  };
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
  const what = image.class.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 40) ||
    `class-${image.class_index}`;
  return `${what}-${run.facts.seed}-${image.index}.png`;
}
