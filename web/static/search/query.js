// What is searched for: `{ pictures, crop, folder }`, and each picture with its weight. Never changed, only replaced.

import { ApiError } from "../api.js";
import { fileName } from "../dom.js";
import { t } from "../texts.js";

export const MOST_PICTURES = 16;
export const WANTED = 1;
// Half as much as a wanted one: "less like this", not "the opposite of this".
export const UNWANTED = -0.5;

const CUT_SIDE = 1024;

// --- pictures: each has one of `file`, `imageId`, `address` and `keptUrl` -----------------------------------------

export const fromFile = (file) => ({ file, src: URL.createObjectURL(file), name: file.name, weight: WANTED });

export const fromAddress = (address) => ({ address, src: null, name: address, weight: WANTED });

// An indexed picture: a result, or its record.
export const fromImage = (item, weight = WANTED) => ({
  imageId: item.image_id,
  src: item.thumbnail_url,
  fullSrc: item.image_url,
  name: fileName(item.path),
  weight,
});

// What the server says was searched for, after a reload or in another browser. As long as the search has not ended,
// there are no previews of uploads: the query is `provisional`. `fresh`: they are about to be made.
export function fromResult({ state, query: { images, crop, folder } }, names, fresh) {
  const ended = state === "done" || state === "failed";
  const pictures = images.map((image, position) => ({
    imageId: image.image_id ?? undefined,
    keptUrl: image.image_id ? undefined : image.picture_url,
    src: image.image_id || ended ? image.picture_url : null,
    fresh: fresh && !image.image_id,
    fullSrc: image.image_id ? `/api/v1/images/${image.image_id}/original` : undefined,
    name: names[position] ?? t("search.picture_number", { number: position + 1 }),
    weight: image.weight,
  }));
  return { pictures, crop, folder, provisional: !ended };
}

// --- queries -------------------------------------------------------------------------------------------------------

export const queryOf = (pictures, folder = null) => ({ pictures, crop: null, folder });

export const isWanted = (picture) => picture.weight > 0;

const key = (picture) => picture.imageId ?? picture;

// The query with an indexed picture more; one that is there already gets the new weight.
export async function withImage(query, item, weight) {
  const added = fromImage(item, weight);
  // A region can be searched for only alone: beside others it becomes a picture of its own.
  const before = query.crop ? [await cut(query.pictures[0], query.crop)] : query.pictures;
  const others = before.filter((picture) => key(picture) !== key(added));
  return { ...query, crop: null, pictures: others.length < before.length ? replaced(before, added) : [...before, added] };
}

const replaced = (pictures, added) => pictures.map((picture) => (key(picture) === key(added) ? added : picture));

export function withWeight(query, picture, weight) {
  return { ...query, pictures: query.pictures.map((other) => (other === picture ? { ...picture, weight } : other)) };
}

export function without(query, picture) {
  return { ...query, pictures: query.pictures.filter((other) => other !== picture) };
}

// --- their bytes ---------------------------------------------------------------------------------------------------

// The picture as a file to upload.
export async function fileOf(picture) {
  if (picture.file) return picture.file;
  const response = picture.keptUrl ? await fetch(picture.keptUrl).catch(() => null) : null;
  if (!response?.ok) throw new ApiError(404, t("search.gone"), t("search.gone_help"));
  picture.file = new File([await response.blob()], "picture.jpg", { type: "image/jpeg" });
  return picture.file;
}

// A region of a picture as a picture of its own; the whole one where this browser cannot draw it.
async function cut(picture, [left, top, right, bottom]) {
  const image = new Image();
  image.src = picture.fullSrc ?? picture.src;
  try {
    await image.decode();
  } catch {
    return picture;
  }
  const width = (right - left) * image.naturalWidth;
  const height = (bottom - top) * image.naturalHeight;
  const scale = Math.min(1, CUT_SIDE / Math.max(width, height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const from = [left * image.naturalWidth, top * image.naturalHeight, width, height];
  canvas.getContext("2d").drawImage(image, ...from, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
  return { ...fromFile(new File([blob], `${picture.name}.jpg`, { type: "image/jpeg" })), weight: picture.weight };
}
