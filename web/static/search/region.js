// Regions of a picture: [left, top, right, bottom] in fractions of its sides. Arithmetic only.

export const WHOLE = [0, 0, 1, 1];

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

export const isWhole = (region) => region.every((value, side) => Math.abs(value - WHOLE[side]) < 0.005);

export function contains([left, top, right, bottom], [x, y]) {
  return x >= left && x <= right && y >= top && y <= bottom;
}

// Between two corners, in any order.
export function drawn([x0, y0], [x1, y1], least) {
  const sides = (a, b, smallest) => {
    const low = clamp(Math.min(a, b), 0, 1 - smallest);
    return [low, clamp(Math.max(a, b), low + smallest, 1)];
  };
  const [left, right] = sides(x0, x1, least[0]);
  const [top, bottom] = sides(y0, y1, least[1]);
  return [left, top, right, bottom];
}

// Moved by so much, and kept inside.
export function moved([left, top, right, bottom], dx, dy) {
  const x = clamp(dx, -left, 1 - right);
  const y = clamp(dy, -top, 1 - bottom);
  return [left + x, top + y, right + x, bottom + y];
}

// With the given edges ("nw": the upper and the left one) moved by so much; `least` is the smallest size.
export function resized([left, top, right, bottom], edges, dx, dy, least) {
  return [
    edges.includes("w") ? clamp(left + dx, 0, right - least[0]) : left,
    edges.includes("n") ? clamp(top + dy, 0, bottom - least[1]) : top,
    edges.includes("e") ? clamp(right + dx, left + least[0], 1) : right,
    edges.includes("s") ? clamp(bottom + dy, top + least[1], 1) : bottom,
  ];
}

// As it is sent: four decimals are finer than a pixel of the network.
export const rounded = (region) => region.map((value) => Math.round(value * 10_000) / 10_000);
