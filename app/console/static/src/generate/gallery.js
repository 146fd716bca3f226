/** The gallery: the runs of this browser, newest first. Ended runs stay after a reload, up to a limit. */

import { Run } from "./run.js";
import { removeRecords, storedRecords, storeRecord } from "../core/browser-store.js";

/** The limits of what the browser keeps. Most of a run are its images, as base64. */
const MOST_RUNS = 100;
const MOST_LETTERS = 50_000_000;

const STORE = "runs";

/** The runs, newest first. */
export const runs = [];

/**
 * Sends `begun` with a new run, `changed` when runs are removed or were read, `full` with the number of dropped runs,
 * and `unkept` when the browser stores nothing.
 */
export const changes = new EventTarget();

const tell = (kind, detail = null) => changes.dispatchEvent(new CustomEvent(kind, { detail }));
const lettersOf = (run) => run.images.reduce((total, image) => total + (image.png?.length || 0), 0);
const hasFavourite = (run) => run.images.some((image) => image.favourite);

let reading = null;

/** Reads the runs that the browser has kept, once a tab. */
export function readGallery() {
  reading ??= storedRecords(STORE).then((records) => {
    const known = new Set(runs.map((run) => run.id));
    const kept = records.filter((one) => !known.has(one.id)).map((record) => Run.from(record));
    runs.push(...kept.sort((one, other) => (one.id < other.id ? 1 : -1)));
    tell("changed");
  }).catch(() => tell("unkept"));
  return reading;
}

/** Starts a run, and stores it whenever it ends. */
export function begin(run) {
  run.addEventListener("status", () => runs.includes(run) && keep(run));
  runs.unshift(run);
  tell("begun", run);
  run.start();
}

/** Stores a run as it is now. When the gallery is full, the oldest runs go, and those with favourites last. */
export async function keep(run) {
  if (run.isOpen || !run.images.some((image) => image.finished)) return;
  const old = tooOld();
  try {
    await storeRecord(STORE, run.record());
    await removeRecords(STORE, old.map((one) => one.id));
  } catch {
    tell("unkept");
  }
  if (!old.length) return;
  tell("full", old.length);
  drop(old);
}

function tooOld() {
  let [count, letters] = [runs.length, runs.reduce((total, run) => total + lettersOf(run), 0)];
  const ended = runs.slice(1).reverse().filter((run) => !run.isOpen);
  const old = [];
  for (const run of [...ended.filter((one) => !hasFavourite(one)), ...ended.filter(hasFavourite)]) {
    if (count <= MOST_RUNS && letters <= MOST_LETTERS) break;
    old.push(run);
    count -= 1;
    letters -= lettersOf(run);
  }
  return old;
}

/** Removes a run. */
export async function remove(run) {
  await removeAll([run]);
}

/** Removes the ended runs without favourites. */
export async function clearEnded() {
  await removeAll(runs.filter((run) => !run.isOpen && !hasFavourite(run)));
}

async function removeAll(gone) {
  await removeRecords(STORE, gone.map((run) => run.id)).catch(() => null); // first, so that no reload brings them back
  drop(gone);
}

function drop(gone) {
  runs.splice(0, runs.length, ...runs.filter((run) => !gone.includes(run)));
  tell("changed");
}

/** Makes an image a favourite, or not. */
export async function favour(run, image, wanted) {
  image.favourite = wanted;
  run.dispatchEvent(new CustomEvent("image", { detail: image }));
  await keep(run);
}
