// Zip archives, as far as a study needs: reading stored and deflated files, writing stored ones (APPNOTE 6.3.10).

const END = 0x06054b50;
const CENTRAL = 0x02014b50;
const LOCAL = 0x04034b50;
const MAX_INFLATED_BYTES = 1 << 30;
const MAX_FILES = 2_000;

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value >>> 0;
});

function crc32(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = TABLE[(value ^ byte) & 255] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

/** Returns one zip of `files` under neutral names: their own may name a patient. */
export async function zipped(files) {
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const [number, file] of files.entries()) {
    const bytes = new Uint8Array(await file.arrayBuffer());
    const name = new TextEncoder().encode(String(number).padStart(5, "0"));
    const common = header([[2, 20], [2, 0], [2, 0], [2, 0], [2, 33], [4, crc32(bytes)], [4, bytes.length], [4, bytes.length], [2, name.length], [2, 0]]);
    parts.push(header([[4, LOCAL]]), common, name, bytes);
    directory.push(header([[4, CENTRAL], [2, 20]]), common, header([[2, 0], [2, 0], [2, 0], [4, 0], [4, offset]]), name);
    offset += 4 + common.length + name.length + bytes.length;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const end = header([[4, END], [2, 0], [2, 0], [2, files.length], [2, files.length], [4, size], [4, offset], [2, 0]]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

/** Returns little-endian numbers, each given as [bytes, value]. */
function header(fields) {
  const bytes = new Uint8Array(fields.reduce((sum, [size]) => sum + size, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const [size, value] of fields) {
    if (size === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += size;
  }
  return bytes;
}

/** Returns the files of a zip; none if it is no zip that is read here. */
export async function unzipped(archive) {
  const tail = new DataView(await archive.slice(-65_557).arrayBuffer());
  let at = tail.byteLength - 22;
  while (at >= 0 && tail.getUint32(at, true) !== END) at -= 1;
  if (at < 0) return [];
  const count = Math.min(tail.getUint16(at + 10, true), MAX_FILES);
  const start = tail.getUint32(at + 16, true);
  const directory = new DataView(await archive.slice(start, start + tail.getUint32(at + 12, true)).arrayBuffer());
  const files = [];
  let left = MAX_INFLATED_BYTES;
  for (let k = 0, place = 0; k < count && place + 46 <= directory.byteLength; k += 1) {
    if (directory.getUint32(place, true) !== CENTRAL) break;
    const [method, packed, size] = [directory.getUint16(place + 10, true), directory.getUint32(place + 20, true), directory.getUint32(place + 24, true)];
    const lengths = [28, 30, 32].map((field) => directory.getUint16(place + field, true));
    const path = new TextDecoder().decode(new Uint8Array(directory.buffer, place + 46, lengths[0]));
    left -= size;
    if (left < 0) break;
    if (!path.endsWith("/")) files.push(await extracted(archive, directory.getUint32(place + 42, true), method, packed, size, path));
    place += 46 + lengths[0] + lengths[1] + lengths[2];
  }
  return files.filter(Boolean);
}

async function extracted(archive, offset, method, packed, size, path) {
  const local = new DataView(await archive.slice(offset, offset + 30).arrayBuffer());
  const start = offset + 30 + local.getUint16(26, true) + local.getUint16(28, true);
  const content = archive.slice(start, start + packed);
  const name = path.split("/").pop();
  if (method === 0) return Object.defineProperty(new File([content], name), "path", { value: path });
  if (method !== 8) return null;
  const inflated = content.stream().pipeThrough(new DecompressionStream("deflate-raw"));
  const bytes = await limited(inflated, size);
  return bytes && Object.defineProperty(new File(bytes, name), "path", { value: path });
}

/** Returns the pieces of a stream; null if it is damaged or longer than the archive says. */
async function limited(stream, size) {
  const pieces = [];
  let total = 0;
  const reader = stream.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return total === size ? pieces : null;
      total += value.length;
      if (total > size) {
        await reader.cancel();
        return null;
      }
      pieces.push(value);
    }
  } catch {
    return null;
  }
}
