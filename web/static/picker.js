// Takes a picture in: from the button, by drag and drop anywhere on the page, or from the clipboard.

import { find } from "./dom.js";

export function setUpPicker(onPicture, onProblem) {
  const input = find("#file");
  const overlay = find(".drop-overlay");

  input.addEventListener("change", () => {
    if (input.files.length) onPicture(input.files[0]);
    input.value = "";
  });

  // The events of nested elements come in pairs; the overlay goes when the last one is left.
  let depth = 0;
  const setDepth = (value) => {
    depth = Math.max(0, value);
    overlay.hidden = depth === 0;
  };
  document.addEventListener("dragenter", (event) => {
    event.preventDefault();
    setDepth(depth + 1);
  });
  document.addEventListener("dragleave", () => setDepth(depth - 1));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    setDepth(0);
    const files = [...event.dataTransfer.files];
    const picture = files.find((file) => file.type.startsWith("image/")) ?? files[0];
    if (picture) onPicture(picture);
    else onProblem("That was not a file", "Drop a picture file, or copy the picture and paste it here.");
  });

  document.addEventListener("paste", (event) => {
    const picture = [...event.clipboardData.files][0];
    if (picture) onPicture(picture);
    else onProblem("The clipboard holds no picture", "Copy a picture (not its address), then paste it here.");
  });
}

// A small copy of the picture as a data: address, to show it again after a reload; null if it cannot be drawn.
export async function smallCopy(file, side = 320) {
  try {
    const bitmap = await createImageBitmap(file);
    const scale = Math.min(1, side / Math.max(bitmap.width, bitmap.height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(bitmap.width * scale));
    canvas.height = Math.max(1, Math.round(bitmap.height * scale));
    canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    bitmap.close();
    return canvas.toDataURL("image/webp", 0.8);
  } catch {
    return null; // a format that only the server can read
  }
}
