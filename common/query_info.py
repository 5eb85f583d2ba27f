"""What was searched for, as it is told with every result: it follows from the record of the search."""

from __future__ import annotations

from collections.abc import Container
from itertools import count

from common.messages import QueryImage, QueryInfo, QueryPicture, SearchRecord, thumbnail_url


def query_info(record: SearchRecord, previews: Container[int] | None) -> QueryInfo:
    """What was searched for.

    Args:
        record: The search.
        previews: The uploads of which there are previews; None: all have one, or will have.
    """
    query = record.query
    # The uploads of a next page are those of the first.
    search_id = record.result.id if query.after is None else query.after.search_id
    uploads = count()

    def picture(image: QueryImage) -> QueryPicture:
        if image.image_id is not None:
            url: str | None = thumbnail_url(image.image_id)
        else:
            number = next(uploads)
            has_url = previews is None or number in previews
            url = f"/api/v1/searches/{search_id}/pictures/{number}" if has_url else None
        return QueryPicture(image_id=image.image_id, weight=image.weight, picture_url=url)

    return QueryInfo(
        images=[picture(image) for image in query.pictures],
        crop=query.crop,
        folder=query.folder,
        k=query.k,
        min_score=query.min_score,
    )
