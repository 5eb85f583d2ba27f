// Cuts pictures into rows that fill a width. Arithmetic only: no element is touched here.

// Beyond these a tile shows a part: a very long picture would leave no room for its neighbours, a very
// narrow one none for its name.
const NARROWEST = 0.6;
const WIDEST = 3;
// A last row that fills nearly the whole width is stretched like the others.
const MOST_STRETCH = 1.3;

// Width by height of a tile for a picture of this size.
export function tileRatio(width, height) {
  return Math.min(WIDEST, Math.max(NARROWEST, width / height || 1));
}

// Rows for these ratios: each `{ start, end, height, widths, filled }` in whole pixels. Only the last one may not fill
// the width.
export function justify(ratios, width, { target, gap, start = 0 }) {
  const rows = [];
  let sum = 0;
  let first = start;
  for (let index = start; index < ratios.length; index += 1) {
    const before = heightOf(sum, index - first, width, gap);
    sum += ratios[index];
    const height = heightOf(sum, index - first + 1, width, gap);
    if (height > target) continue;
    // The row ends with this picture or before it, whichever comes closer to the wanted height.
    const without = before / target < target / height;
    const end = without ? index : index + 1;
    rows.push(fill(ratios, first, end, without ? before : height, width, gap));
    first = end;
    sum = without ? ratios[index] : 0;
  }
  if (first < ratios.length) {
    const height = heightOf(sum, ratios.length - first, width, gap);
    if (height <= target * MOST_STRETCH) rows.push(fill(ratios, first, ratios.length, height, width, gap));
    else rows.push(fill(ratios, first, ratios.length, target, null, gap));
  }
  return rows;
}

// The height at which so many pictures fill a row; infinite for none.
function heightOf(sum, count, width, gap) {
  return count ? (width - gap * (count - 1)) / sum : Infinity;
}

function fill(ratios, start, end, height, width, gap) {
  const widths = [];
  let position = 0;
  let exact = 0;
  for (let index = start; index < end; index += 1) {
    exact += ratios[index] * height;
    // Rounded positions, not widths: so the row is neither a pixel too long nor too short.
    const next = width !== null && index === end - 1 ? width - gap * (end - start - 1) : Math.round(exact);
    widths.push(next - position);
    position = next;
  }
  return { start, end, height: Math.round(height), widths, filled: width !== null };
}
