// How much two pictures are alike, and how large a file is, as people read it.

import { t } from "../texts.js";

// Above this cosine two pictures are the same to the network; what is left is rounding.
const SAME = 0.9999;

// A percentile is never rounded up: 99.998 is not 100.
export function percent(percentile, score = 0) {
  if (score >= SAME) return "100 %";
  const digits = percentile >= 99 ? 2 : percentile >= 90 ? 1 : 0;
  const floored = Math.floor(percentile * 10 ** digits + 1e-9) / 10 ** digits;
  return `${Math.min(floored, 99.99).toFixed(digits)} %`;
}

// The figure on a tile: the percentile, or the cosine where there is none.
export function figure(hit) {
  return hit.percentile == null ? hit.score.toFixed(3) : percent(hit.percentile, hit.score);
}

// What the figure means, in words.
export function explained(hit) {
  if (hit.percentile == null) return t("gallery.no_percentile");
  return t("gallery.more_alike", { percent: percent(hit.percentile, hit.score) });
}

export function cosineAndDistance(hit) {
  return t("gallery.figures", { score: hit.score.toFixed(3), distance: hit.distance.toFixed(3) });
}

export function fileSize(bytes) {
  const units = ["B", "KB", "MB", "GB"];
  const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, bytes)) / 3));
  const value = bytes / 1000 ** power;
  return `${power === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[power]}`;
}
