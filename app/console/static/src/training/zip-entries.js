/** Reads the list of files of a zip, and single files, so that a preview needs no upload. ZIP64 is not read. */

const END = 0x06054b50;
const ENTRY = 0x02014b50;
const END_BYTES = 22;
const COMMENT_BYTES = 65_535;
const LOCAL_BYTES = 30;
const MOST_ENTRY_BYTES = 64 * 2 ** 20;

/** Returns [{path, blob()}] of the files in a zip. Raises an error when it is no zip. */
export async function zipEntries(zip) {
  const tailStart = Math.max(0, zip.size - END_BYTES - COMMENT_BYTES);
  const tail = await viewOf(zip.slice(tailStart));
  let end = tail.byteLength - END_BYTES;
  while (end >= 0 && tail.getUint32(end, true) !== END) end -= 1;
  if (end < 0) throw new Error("no zip");
  const start = tail.getUint32(end + 16, true);
  const directory = await viewOf(zip.slice(start, start + tail.getUint32(end + 12, true)));
  const found = [];
  for (let at = 0; at + 46 <= directory.byteLength && directory.getUint32(at, true) === ENTRY;) {
    const [nameBytes, extraBytes, commentBytes] = [28, 30, 32].map((offset) => directory.getUint16(at + offset, true));
    const path = new TextDecoder().decode(new Uint8Array(directory.buffer, at + 46, nameBytes));
    const method = directory.getUint16(at + 10, true);
    const size = directory.getUint32(at + 20, true);
    const local = directory.getUint32(at + 42, true);
    if (!path.endsWith("/") && size <= MOST_ENTRY_BYTES) {
      found.push({
        path,
        blob: () => content(zip, local, size, method),
      });
    }
    at += 46 + nameBytes + extraBytes + commentBytes;
  }
  return found;
}

async function content(zip, local, size, method) {
  const header = await viewOf(zip.slice(local, local + LOCAL_BYTES));
  const start = local + LOCAL_BYTES + header.getUint16(26, true) + header.getUint16(28, true);
  const stored = zip.slice(start, start + size);
  if (method === 0) return stored;
  return new Response(stored.stream().pipeThrough(new DecompressionStream("deflate-raw"))).blob();
}

const viewOf = async (blob) => new DataView(await blob.arrayBuffer());
