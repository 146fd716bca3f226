/** The facts with which the service drew images, and the requests that draw one of them again. */

import { withQuery } from "../core/api.js";
import { jsonOrText, toJson } from "../core/json.js";
import { currentKey } from "../core/key.js";
import { effective } from "./settings.js";

const WORDS = ["id", "model", "version"]; // never numbers, even when they look like numbers
const MOST_NAME_LETTERS = 40;

/** Returns the facts in an answer's Darkroom-* headers. seed: a BigInt, because a number would round it. */
export function factsOf(headers) {
  const facts = {};
  for (const [header, text] of headers) {
    if (!header.startsWith("darkroom-")) continue;
    const name = header.slice("darkroom-".length).replaceAll("-", "_");
    facts[name] = WORDS.includes(name) ? text : jsonOrText(text);
  }
  facts.seed = BigInt(headers.get("Darkroom-Seed"));
  if (facts.seeds) facts.seeds = headers.get("Darkroom-Seeds").match(/\d+/g).map(BigInt);
  return facts;
}

/** Returns the model and the settings that had an effect, as a request names them. */
export const settingsOf = (facts) => ({ ...effective(facts), model: `${facts.model}@${facts.version}` });

/** Returns the address of the page Generate with exactly these settings, classes and seed. */
export function linkTo({ facts, images, body }) {
  const classes = [...new Set(images.map((image) => image.class))];
  const { model, ...used } = settingsOf(facts);
  const query = { model, class: classes, n: body.n, seed: facts.seed, best_of: body.best_of };
  for (const [name, value] of Object.entries(used)) {
    if (Array.isArray(value)) [query[`${name}_low`], query[`${name}_high`]] = value;
    else query[name] = value;
  }
  return withQuery("#/generate", { ...query, first_index: facts.first_index || null });
}

/** Returns what tells two runs apart: a text for each. A version has the name by which the request called it. */
export function differences(one, other) {
  const runs = [one, other];
  const [first, second] = runs.map(({ facts }) => ({ version: facts.version, ...effective(facts) }));
  const names = [...new Set([...Object.keys(first), ...Object.keys(second)])];
  const different = names.filter((name) => String(first[name]) !== String(second[name]));
  const word = (name, value, body) => {
    if (name === "version") return body.model;
    return value === undefined || value === null ? null : `${name.replaceAll("_", " ")} ${[value].flat().join(" to ")}`;
  };
  return [first, second].map((its, at) =>
    different.map((name) => word(name, its[name], runs[at].body)).filter(Boolean).join(", ")
  );
}

/** Returns a command line that draws exactly this image, or the same interpolation. */
export function curlFor(run, image) {
  const { path, body, file } = requestFor(run, image);
  const key = currentKey() ? ' -H "Authorization: Bearer $DARKROOM_API_KEY"' : "";
  const quoted = toJson(body).replaceAll("'", "'\\''");
  return [
    `curl -sf ${location.origin}${path} -H 'Content-Type: application/json'${key}`,
    `  -d '${quoted}'`,
    `  -o '${file}'`,
  ].join(" \\\n");
}

/** Returns {path, body, file} of the request that draws this image again, or the whole interpolation. */
export function requestFor(run, image) {
  const { facts, images } = run;
  if (run.kind === "interpolate") {
    const ends = [images[0].class, images.at(-1).class];
    const { seeds, indices } = facts;
    const body = { class: ends, seeds, indices, count: images.length, ...settingsOf(facts), format: "zip" };
    return { path: "/v1/interpolate", body, file: `interpolation-${facts.id.slice(0, 8)}.zip` };
  }
  const which = { class: image.class, seed: facts.seed, first_index: image.index, n: 1 };
  const body = { ...which, ...settingsOf(facts), format: "png" };
  return { path: "/v1/generate", body, file: fileName(run, image) };
}

/** Returns the name of an image's file. It is safe on every system and keeps the class's own script. */
export function fileName(run, image) {
  const words = image.class.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, MOST_NAME_LETTERS);
  return `${words || `class-${image.class_index}`}-${run.facts.seed}-${image.index}.png`;
}
