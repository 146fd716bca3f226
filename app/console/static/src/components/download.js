/** Saves files. They are fetched with the API key, which a plain link would not send. */

import { send } from "../core/api.js";
import { el } from "../core/dom.js";

const KEPT_MILLISECONDS = 60_000; // the browser may begin to read the file later

/** Saves bytes as a file of the user. */
export function saveBlob(blob, name) {
  const href = URL.createObjectURL(blob);
  el("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), KEPT_MILLISECONDS);
}

/** Fetches a file of the service and saves it. */
export async function saveFile(path, name, signal) {
  saveBlob(await (await send(path, { signal })).blob(), name);
}
