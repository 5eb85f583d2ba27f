"""Pages of a ranking, by keyset: what comes after a position, whatever was added or removed before it meanwhile."""

from __future__ import annotations

from common.messages import MAX_DEPTH, SearchPosition
from common.ranking.protocol import Match, Query, Ranker

# A page asks for so many more than it expects: images that were added before its position push it down.
_SLACK = 30
# However much was added: this deep no ranker is asked.
_DEEPEST = 2 * MAX_DEPTH


def ranked_page(
    ranker: Ranker,
    query: Query,
    k: int,
    *,
    after: SearchPosition | None = None,
    folder: str | None = None,
    min_score: float | None = None,
) -> tuple[list[Match], bool]:
    """The next `k` results after a position, in the order of score (highest first) and path.

    Args:
        ranker: Ranks the images.
        query: (d,) float32, L2-normalised.
        k: How many at most.
        after: Where the page before ended; None: from the best one on.
        folder: As for `Ranker.search`.
        min_score: As for `Ranker.search`.

    Returns:
        The results, and whether there is a page after them. There is none beyond `MAX_DEPTH` results.
    """
    before = 0 if after is None else after.rank
    count = max(0, min(k, MAX_DEPTH - before))
    asked = before + count + 1 + (0 if after is None else _SLACK)
    while True:
        found = ranker.search(query, asked, folder=folder, min_score=min_score)
        rest = [match for match in found if after is None or after.is_before(match.score, match.entry.path)]
        if len(rest) > count or len(found) < asked or asked >= _DEEPEST:
            return rest[:count], len(rest) > count and before + count < MAX_DEPTH
        asked = min(2 * asked, _DEEPEST)
