/** A job's state as a word with a mark. */

import { el } from "../core/dom.js";

export const STATUSES = ["queued", "running", "cancelling", "succeeded", "failed", "cancelled"];

export const FINISHED = ["succeeded", "failed", "cancelled"];

/** The badge. */
export const badge = (status) => el("span", { class: `badge ${status}` }, status);
