/** The states of a job. */

import { el } from "../core/dom.js";

export const STATUSES = ["queued", "running", "cancelling", "succeeded", "failed", "cancelled"];

export const FINISHED = ["succeeded", "failed", "cancelled"];

/** Makes a mark with the state's name. */
export const badge = (status) => el("span", { class: `badge ${status}` }, status);
