/** What a metric measures, in plain words, beside each figure. */

import { figure, whole } from "../core/format.js";

const MEANINGS = [
  ["fid-", "Fréchet distance between the features of generated and of real images. Less is better."],
  ["kid-", "Kernel distance between the features of generated and of real images. Less is better; equal sets have 0."],
  ["precision-", "Share of generated images that look like some real image. More is better."],
  ["recall-", "Share of real images that the generated ones come close to. More is better."],
  ["confidence-", "How sure a classifier is of each image, and how many kinds it sees. More is better."],
  ["perceptual-", "Perceptual distance: between images of a class (diversity), or to the nearest training image."],
  ["lpips-", "Perceptual distance: between images of a class (diversity), or to the nearest training image."],
  ["bits-per-dimension", "How many bits the model needs for each number of a real image. Less is better."],
];

/** Returns what a metric measures. images: how many were compared, where that is known. */
export function meaningOfMetric(metric, images = null) {
  const meaning = MEANINGS.find(([prefix]) => metric.startsWith(prefix))?.[1] ?? "";
  if (!metric.startsWith("fid-")) return meaning;
  return [meaning, extractorWords(metric), fewWords(images)].filter(Boolean).join(" ");
}

function extractorWords(metric) {
  if (metric === "fid-inception") return "The features are Inception's, as in papers; compare only equal protocols.";
  return "The features are not Inception's, so this is another scale than the FID of papers.";
}

/** A Fréchet distance from few images is too large (Chong & Forsyth 2020). */
function fewWords(images) {
  return images &&
    `Measured on ${whole(images)} images: few images make it larger, so real images do not reach 0 either.`;
}

/** Returns how good a value is among all values of the same metric and protocol. others: {value, what} each. */
export function placeOf(value, others) {
  const sorted = [...others].sort((one, other) => one.value - other.value);
  const [best, worst] = [sorted[0], sorted.at(-1)];
  if (!best || best.value === worst.value) return "";
  const scale = `Here ${figure(best.value)} (${best.what}) is good and ${figure(worst.value)} (${worst.what}) is poor`;
  return value === best.value ? `${scale}: this is the best of ${sorted.length}.` : `${scale}.`;
}
