/** One version: a few of its images, what it is, its figures, its files, and its deletion. */

import { button } from "../components/button.js";
import { deleted } from "../components/deletion.js";
import { saveBlob, saveFile } from "../components/download.js";
import { keepButton } from "../components/keep-button.js";
import { notice, showProblem } from "../components/states.js";
import { el, name } from "../core/dom.js";
import { toJson } from "../core/json.js";
import { bytes, figure, moment, several, shortDigest, whole } from "../core/format.js";
import { effective, settings } from "../generate/settings.js";
import { trainingNote } from "../generate/training-note.js";
import { meaningOfMetric, placeOf } from "./metric-words.js";
import { sampleGrid } from "./sample-grid.js";
import { generateLink, promoteButton, section, versionPath } from "./versions.js";

const MOST_CLASSES = 40;

/**
 * Makes the parts. model, version: as the service describes them. options: {said, signal, onPromote, onDeleted}, where
 * onPromote(number) makes a version production, and onDeleted(version) is called when it is deleted.
 */
export function versionParts(model, version, options) {
  const called = `version ${version.version}`;
  const isProduction = model.aliases.production?.version === version.version;
  const images = version.kept
    ? sampleGrid(model.name, version, isProduction, options.signal)
    : notice("", "Its weights are not kept", el("p", {}, "Its figures are. Choose another version below."));
  return [
    section("Images", `What ${called} draws`, trainingNote(version), images),
    section(
      "Version",
      `About ${called}`,
      factsOf(version),
      version.kept && actions(model, version, isProduction, options),
    ),
    figuresPart(model, version),
  ];
}

function factsOf(version) {
  const { class_names: classes, image_size: side, image_channels: channels, default_sampling: own } = version;
  const more = classes.length - MOST_CLASSES;
  const tags = classes.slice(0, MOST_CLASSES).map((one) => el("li", { class: "tag" }, name(one)));
  const listed = el(
    "ul",
    { class: "classes" },
    tags,
    more > 0 && el("li", { class: "soft small" }, `and ${more} more`),
  );
  const used = own ? effective(own) : {};
  const ownSettings = settings
    .filter((one) => used[one.name] !== undefined && used[one.name] !== null)
    .map((one) => `${one.label.toLowerCase()} ${[used[one.name]].flat().join(" to ")}`);
  const rows = [
    ["Images", side && `${side}×${side} pixels, ${channels === 1 ? "grey" : "colour"}`],
    ["Parameters", version.parameters && whole(version.parameters)],
    ["Training", `${whole(version.images_seen)} images seen`],
    ["Own settings", ownSettings.join(", ")],
    ["File", `${bytes(version.size_bytes)}, ${version.source}, ${moment(version.created_at)}`],
    ["Digest", el("code", { title: version.digest }, shortDigest(version.digest))],
    [several(classes.length, "class"), listed],
  ];
  const pairs = rows.filter(([, detail]) => detail).flatMap((
    [term, detail],
  ) => [el("dt", {}, term), el("dd", {}, detail)]);
  return el("dl", { class: "facts" }, pairs);
}

function actions(model, version, isProduction, { said, onPromote, onDeleted, signal }) {
  const path = versionPath(model.name, version.version);
  const file = `${model.name}-${version.version}`;
  const tried = (act) => async () => {
    try {
      await act();
    } catch (error) {
      showProblem(said, error);
      said.scrollIntoView({ block: "center" });
    }
  };
  const weights = tried(() => saveFile(`${path}/weights`, `${file}.safetensors`, signal));
  const card = () => saveBlob(new Blob([toJson(version, 2)], { type: "application/json" }), `${file}.json`);
  const remove = tried(async () => {
    const lost = "Its weights are deleted. Its number and its figures stay.";
    if (await deleted(path, `version ${version.version}`, signal, lost)) onDeleted(version);
  });
  const { version: number } = version;
  return el(
    "div",
    { class: "actions" },
    !isProduction && promoteButton(number, () => onPromote(number)),
    generateLink(`${model.name}@${number}`, `the shown version ${number}`),
    button("Download weights", weights, { class: "compact" }),
    button("Download card", card, { class: "compact", title: "its settings, classes, figures and recipe as JSON" }),
    keepButton(path, version.keep, { said, signal, class: "compact" }),
    button("Delete", remove, { class: "danger compact" }),
  );
}

function figuresPart(model, version) {
  const rows = [...evaluated(model, version), ...measured(version)];
  if (!rows.length) return null;
  const row = ({ metric, value, about, images, others }) => [
    el("dt", {}, el("strong", {}, figure(value)), el("br"), el("span", { class: "small" }, metric)),
    el("dd", {}, [about, meaningOfMetric(metric, images), placeOf(value, others)].filter(Boolean).join(" ")),
  ];
  return section("Figures", "Figures", el("dl", { class: "facts figures" }, rows.flatMap(row)));
}

/** Returns the figures of the version's evaluation, among those of the model's other versions. */
function evaluated(model, version) {
  const withProtocol = new Map(version.evaluations.map((one) => [one.metric, one]));
  return Object.entries(version.metrics).map(([metric, value]) => {
    const own = withProtocol.get(metric);
    const others = model.newest.flatMap((one) =>
      one.evaluations
        .filter((found) => own && found.metric === metric && found.protocol_digest === own.protocol_digest)
        .map((found) => ({ value: found.value, what: `version ${one.version}` }))
    );
    const images = Number(/(?:^|; )images=(\d+)/.exec(own?.protocol_string ?? "")?.[1]) || null;
    return { metric, value, images, others: lessIsBetter(metric) ? others : [], about: "" };
  });
}

const lessIsBetter = (metric) => /^(fid|kid)-|^bits/.test(metric);

/** Returns the best value of each frontier, among its other points. */
function measured(version) {
  return version.frontiers.map(({ metric, guidance, images, points }) => {
    const best = points.reduce((one, other) => (other.value < one.value ? other : one));
    const others = points.map((one) => ({ value: one.value, what: `${one.sampler}, ${one.steps} steps` }));
    return { metric, value: best.value, images, others, about: `The best sampler's, at guidance ${guidance}.` };
  });
}
