/** Makes zip archives without compression: pictures are compressed already. */

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, value) => {
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});
const UTF8_NAMES = 0x0800;
const FIRST_DAY = 0x0021; // 1980-01-01, so that equal files make equal archives

/** Returns a zip archive as a Blob. files: {name, bytes} each, with different names. */
export function zipOf(files) {
  const encoder = new TextEncoder();
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const { name, bytes } of files) {
    const encoded = encoder.encode(name);
    const shared = sharedFields(encoded, bytes);
    const start = numbers([4, 0x04034b50], ...shared);
    parts.push(start, encoded, bytes);
    const noMore = [[2, 0], [2, 0], [2, 0], [4, 0]]; // comment, disk, attributes
    directory.push(numbers([4, 0x02014b50], [2, 20], ...shared, ...noMore, [4, offset]), encoded);
    offset += start.length + encoded.length + bytes.length;
  }
  const size = directory.reduce((total, part) => total + part.length, 0);
  const counts = [[2, 0], [2, 0], [2, files.length], [2, files.length]];
  const end = numbers([4, 0x06054b50], ...counts, [4, size], [4, offset], [2, 0]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

/** Returns the fields that a file's own header and the directory share. */
function sharedFields(name, bytes) {
  const size = bytes.length;
  const times = [[2, 0], [2, FIRST_DAY]];
  return [[2, 20], [2, UTF8_NAMES], [2, 0], ...times, [4, crc32(bytes)], [4, size], [4, size], [2, name.length], [
    2,
    0,
  ]];
}

/** Writes numbers with the lowest byte first. fields: [number of bytes, value]. */
function numbers(...fields) {
  return Uint8Array.from(
    fields.flatMap(([count, value]) => Array.from({ length: count }, (_, at) => (value >>> (8 * at)) & 0xff)),
  );
}

function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}
