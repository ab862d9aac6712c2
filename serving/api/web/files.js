// Files to ask about, from what was dropped: clips one by one, the slices of a cine MR together in one zip.

import { unzipped, zipped } from "./zip.js";

const HEADER_BYTES = 32_768;
const MAX_FILES = 2_000;
const OTHER_FORMATS = /\.(nii|nii\.gz|mp4|avi|gif|png|jpe?g)$/i;
const ORDER = new Intl.Collator(undefined, { numeric: true });
const MODALITY = [0x08, 0x00, 0x60, 0x00];

/** Returns the dropped files, folders walked through. */
export async function droppedFiles(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files];
  const found = [];
  for (const entry of entries) await walk(entry, found);
  return found;
}

async function walk(entry, found) {
  if (found.length >= MAX_FILES) return;
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    Object.defineProperty(file, "path", { value: entry.fullPath });
    found.push(file);
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return;
    for (const inner of some) await walk(inner, found);
  }
}

/** Returns {studies: [{name, file}], left: number of files that are no study}. One file is always asked about. */
export async function studiesOf(files) {
  if (files.length === 1 && !isZip(files[0])) return { studies: [{ name: files[0].name, file: files[0] }], left: 0 };
  const opened = (await Promise.all(files.map(open))).flat().sort((a, b) => ORDER.compare(pathOf(a), pathOf(b)));
  const kinds = await Promise.all(opened.map(kindOf));
  const studies = [];
  const slices = new Map();
  opened.forEach((file, k) => {
    if (kinds[k] === "MR") slices.set(folderOf(file), [...(slices.get(folderOf(file)) ?? []), file]);
    else if (file.name !== "DICOMDIR" && (kinds[k] !== null || isAlone(file, files))) studies.push({ name: file.name, file });
  });
  if (slices.size) studies.push(await cine([...slices.values()].flat()));
  return { studies, left: opened.length - studies.length - [...slices.values()].flat().length + (slices.size ? 1 : 0) };
}

async function cine(files) {
  if (files.length === 1) return { name: files[0].name, file: files[0] };
  return { name: `Cine MR, ${files.length} files`, file: await zipped(files) };
}

const isZip = (file) => /\.zip$/i.test(file.name);
/** A file that was chosen by itself is asked about whatever it is; one of a folder or a zip only if it looks like a study. */
const isAlone = (file, files) => files.includes(file) && !pathOf(file).includes("/");
const pathOf = (file) => file.path || file.webkitRelativePath || file.name;
const folderOf = (file) => pathOf(file).split("/").slice(0, -1).join("/");

/** A zip of ultrasound becomes its files; of anything else it is left whole, for the service to read. */
async function open(file) {
  if (!isZip(file)) return [file];
  const inside = await unzipped(file);
  const kinds = await Promise.all(inside.map(kindOf));
  return kinds.includes("US") ? inside.filter((_, k) => kinds[k] === "US") : [file];
}

/** Returns the modality of a DICOM file (US, MR, or "DICOM" for any other), "file" for other formats, else null. */
export async function kindOf(file) {
  const bytes = new Uint8Array(await file.slice(0, HEADER_BYTES).arrayBuffer());
  const dicom = String.fromCharCode(...bytes.slice(128, 132)) === "DICM";
  if (!dicom) return OTHER_FORMATS.test(file.name) || isZip(file) ? "file" : null;
  for (let at = 132; at < bytes.length - 10; at += 2) {
    if (!MODALITY.every((byte, k) => bytes[at + k] === byte)) continue;
    const value = String.fromCharCode(bytes[at + 8], bytes[at + 9]);
    return value === "US" || value === "MR" ? value : "DICOM";
  }
  return "DICOM";
}
