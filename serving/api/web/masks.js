// Masks of a cine MR: read from the answer's NIfTI, turned as the pictures are, and traced as contours.

import { bytesOf } from "./download.js";

const HEADER_BYTES = 352;
const UINT8 = 2;
/** Edges of a cell of four pixels (top 0, right 1, bottom 2, left 3) that a contour crosses, by which corners lie inside. */
const CROSSED = [[], [[3, 0]], [[0, 1]], [[3, 1]], [[1, 2]], [[3, 0], [1, 2]], [[0, 2]], [[3, 2]], [[2, 3]], [[0, 2]], [[0, 1], [2, 3]], [[1, 2]], [[1, 3]], [[0, 1]], [[0, 3]], []];
const MIDDLE = [[0.5, 0], [1, 0.5], [0.5, 1], [0, 0.5]];

/** Returns {phases, slices, rows, columns, values} turned for display; null if no file holds masks of these pictures. */
export async function masksOf(answer, header) {
  for (const [name, content] of Object.entries(answer.files)) {
    if (!name.endsWith(".nii.gz")) continue;
    const masks = await read(bytesOf(content));
    if (masks && masks.phases === header.frame_count && masks.slices === header.tiles.slices) return turned(masks, header.tiles.turn);
  }
  return null;
}

async function read(bytes) {
  const inflated = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const buffer = await new Response(inflated).arrayBuffer();
  const view = new DataView(buffer);
  if (view.getInt32(0, true) !== 348 || view.getInt16(70, true) !== UINT8) return null;
  const [columns, rows, slices, phases] = [42, 44, 46, 48].map((at) => view.getInt16(at, true));
  return { phases, slices, rows, columns, values: new Uint8Array(buffer, HEADER_BYTES) };
}

function turned(masks, [transpose, flipRows, flipColumns]) {
  const [rows, columns] = transpose ? [masks.columns, masks.rows] : [masks.rows, masks.columns];
  const values = new Uint8Array(masks.values.length);
  const size = rows * columns;
  for (let k = 0; k < masks.phases * masks.slices; k += 1)
    for (let row = 0; row < rows; row += 1)
      for (let column = 0; column < columns; column += 1) {
        const [r, c] = [flipRows ? rows - 1 - row : row, flipColumns ? columns - 1 - column : column];
        values[k * size + row * columns + column] = masks.values[k * size + (transpose ? c * masks.columns + r : r * masks.columns + c)];
      }
  return { ...masks, rows, columns, values };
}

/** Returns the box around everything that is marked, with a margin, as {top, left, side}; null if nothing is. */
export function heartBox(masks, margin = 0.2) {
  let [top, left, bottom, right] = [Infinity, Infinity, -1, -1];
  const size = masks.rows * masks.columns;
  masks.values.forEach((value, k) => {
    if (!value) return;
    const [row, column] = [Math.floor((k % size) / masks.columns), k % masks.columns];
    [top, left, bottom, right] = [Math.min(top, row), Math.min(left, column), Math.max(bottom, row), Math.max(right, column)];
  });
  if (bottom < 0) return null;
  const side = Math.min((1 + 2 * margin) * Math.max(bottom - top, right - left), masks.rows, masks.columns);
  const inside = (low, high, most) => Math.min(Math.max((low + high + 1 - side) / 2, 0), most - side);
  return { top: inside(top, bottom, masks.rows), left: inside(left, right, masks.columns), side };
}

/** Traces the contour of `value` in one slice by marching squares; points are pixels' corners, [column, row]. */
export function contour(masks, phase, slice, value, move, draw) {
  const start = (phase * masks.slices + slice) * masks.rows * masks.columns;
  const inside = (row, column) =>
    row >= 0 && column >= 0 && row < masks.rows && column < masks.columns && masks.values[start + row * masks.columns + column] === value ? 1 : 0;
  for (let row = -1; row < masks.rows; row += 1)
    for (let column = -1; column < masks.columns; column += 1) {
      const corners = inside(row, column) | (inside(row, column + 1) << 1) | (inside(row + 1, column + 1) << 2) | (inside(row + 1, column) << 3);
      for (const [from, to] of CROSSED[corners]) {
        move(column + 0.5 + MIDDLE[from][0], row + 0.5 + MIDDLE[from][1]);
        draw(column + 0.5 + MIDDLE[to][0], row + 0.5 + MIDDLE[to][1]);
      }
    }
}
