/** When something that a recipe places at a number of images comes. */

import { duration, whole } from "../core/format.js";

/** Returns the words for the first time: a number of images, or the same share of the time where the clock decides. */
export function dueAfter(job, everyImages) {
  const { minutes, total_images: total } = job.configuration.recipe.training;
  if (minutes) return `about ${duration((60 * minutes * Math.min(everyImages, total)) / total)}`;
  return `${whole(Math.min(everyImages, job.progress.total_images))} images`;
}
