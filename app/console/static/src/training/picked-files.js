/** The files that a user chooses or drops: {name, archive, files}. A file is {path, blob()}, with its path in the folder. */

import { zipEntries } from "./zip-entries.js";

const ARCHIVE = /\.(zip|npz|tar|gz|tgz)$/i;
const PICTURE = /\.(png|jpe?g|webp|bmp|gif)$/i;

/** Returns what was chosen in a file input, or null. */
export function pickedIn(input) {
  return pickedOf([...input.files].map((file) => ({ path: file.webkitRelativePath || file.name, blob: () => file })));
}

/** Returns what was dropped. Folders are read to their ends. */
export async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.() || item.getAsFile()); // before any await
  const files = [];
  for (const entry of entries) if (entry) await walk(entry, "", files);
  return pickedOf(files);
}

/** Returns the pictures that a browser can show: those of a folder, or of a zip that can be read. */
export async function picturesIn({ archive, files }) {
  const all = archive ? await zipEntries(archive).catch(() => []) : files;
  return all.filter(({ path }) => PICTURE.test(path) && !/(^|\/)(\.|__MACOSX\/|@eaDir\/)/.test(path));
}

function pickedOf(files) {
  if (!files.length) return null;
  const [first] = files;
  const archive = files.length === 1 && ARCHIVE.test(first.path) ? first.blob() : null;
  const tops = new Set(files.map(({ path }) => path.split("/")[0]));
  const outer = tops.size === 1 && (archive || first.path.includes("/"));
  return { name: outer ? first.path.split("/")[0].replace(ARCHIVE, "").replace(/\.tar$/i, "") : "", archive, files };
}

async function walk(entry, folder, files) {
  const path = `${folder}${entry.name}`;
  if (entry instanceof File) files.push({ path, blob: () => entry });
  else if (entry.isDirectory) { for (const one of await entriesOf(entry)) await walk(one, `${path}/`, files); }
  else {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    files.push({ path, blob: () => file });
  }
}

/** Browsers give the entries of a folder in parts; an empty one is the last. */
async function entriesOf(folder) {
  const reader = folder.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found;
    found.push(...some);
  }
}
