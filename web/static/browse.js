// The pictures of a folder: goes on as one scrolls, and shows one at full size.

import { get } from "./api.js";
import { find } from "./dom.js";
import { Grid, sentItems } from "./gallery/grid.js";
import { openViewer } from "./gallery/viewer.js";
import { onStatus } from "./live.js";
import "./notices.js";

const PAGE = 100;

function showPictures(list) {
  const { folder } = list.dataset;
  let { cursor } = list.dataset;

  async function loadMore() {
    if (!cursor) return null;
    const page = await get(`/images?${new URLSearchParams({ limit: PAGE, cursor, ...(folder && { folder }) })}`);
    cursor = page.next_cursor;
    return page.images;
  }

  const grid = new Grid(list, {
    loadMore,
    onOpen: (index) =>
      openViewer(grid.items, index, {
        total: Number(list.dataset.images),
        onClose: (last) => grid.focus(last),
        loadMore: () => grid.loadMore(),
      }),
  });
  grid.append(sentItems(list));
}

// The next folders are those of the page that the link leads to.
async function showMoreFolders(event) {
  event.preventDefault();
  const link = event.currentTarget;
  if (link.ariaBusy === "true") return;
  link.ariaBusy = "true";
  try {
    const response = await fetch(link.href);
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const cards = [...find("#folder-cards", page).children];
    find("#folder-cards").append(...cards);
    find("a", cards[0]).focus();
    const next = find("#more-folders", page);
    if (next) link.href = next.href;
    else link.remove();
  } catch {
    location.assign(link.href); // the browser says what is wrong
  } finally {
    link.ariaBusy = "false";
  }
}

const list = find("#gallery");
if (list) showPictures(list);
// The first pictures have come.
else if (find('[data-notice="empty"]')) onStatus(({ images }) => images && location.reload());
find("#more-folders")?.addEventListener("click", showMoreFolders);
