/** Takes a folder or a file that the user drops on any page, and brings it to the form of the page Data sets. */

import { here } from "../core/router.js";
import { dropped } from "./picked-files.js";

const PAGE = "/training/datasets";
let waiting = null;

/** Begins to take what is dropped. */
export function startDropping() {
  document.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    document.body.classList.add("is-over");
  });
  document.addEventListener("dragleave", () => document.body.classList.remove("is-over"));
  document.addEventListener("drop", (event) => {
    document.body.classList.remove("is-over");
    if (!hasFiles(event)) return;
    event.preventDefault(); // else the browser leaves the page and shows the file
    waiting = dropped(event.dataTransfer);
    waiting.catch(() => {}); // whoever takes it says what went wrong
    if (here().path === PAGE) document.dispatchEvent(new Event("filesdropped"));
    else location.hash = `#${PAGE}`;
  });
}

/** Returns a promise of what was dropped and not taken yet, or null. */
export function takeDropped() {
  const taken = waiting;
  waiting = null;
  return taken;
}

const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
