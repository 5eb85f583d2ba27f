"""What leads from one answer to the next call: the links of the OpenAPI document.

The documentation page makes buttons of them, and the tests of the API follow them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# As long as a page can wait for a result without looking stuck.
_WAIT_SECONDS = 20


@dataclass(frozen=True)
class Link:
    """The next call.

    Attributes:
        operation: Its id.
        text: What a button that follows the link says.
        parameters: Its parameters: constants, or runtime expressions of OpenAPI.
        body: Its JSON body, likewise; None where it has none.
    """

    operation: str
    text: str
    parameters: dict[str, Any] = field(default_factory=dict)
    body: dict[str, Any] | None = None

    def described(self) -> dict[str, Any]:
        """The link as OpenAPI has it."""
        link: dict[str, Any] = {"operationId": self.operation, "description": self.text}
        if self.parameters:
            link["parameters"] = self.parameters
        if self.body is not None:
            link["requestBody"] = self.body
        return link


def _of_job(operation: str, text: str) -> Link:
    return Link(operation, text, {"job_id": "$response.body#/id"})


def _of_image(operation: str, text: str, image_id: str = "$response.body#/image_id") -> Link:
    return Link(operation, text, {"image_id": image_id})


def _next_page(operation: str, **parameters: str) -> Link:
    return Link(operation, "Next page", {"cursor": "$response.body#/next_cursor", **parameters})


LINKS: dict[str, dict[str, Link]] = {
    "create_search": {
        "result": Link("get_search", "Read the result", {"search_id": "$response.body#/id", "wait": _WAIT_SECONDS})
    },
    "get_search": {
        "next_page": Link("create_search", "Next page", body={"cursor": "$response.body#/next_cursor"}),
        "similar": Link(
            "create_search", "More like the first", body={"image_id": "$response.body#/results/0/image_id"}
        ),
        "image": _of_image("get_original", "First picture", "$response.body#/results/0/image_id"),
        "query": Link("get_query_picture", "Uploaded picture", {"search_id": "$response.body#/id", "number": 0}),
    },
    "create_job": {"job": _of_job("get_job", "Read the job")},
    "retry_job": {"job": _of_job("get_job", "Read the job")},
    "get_job": {
        "errors": _of_job("get_job_errors", "Failed files"),
        "pause": _of_job("pause_job", "Pause"),
        "resume": _of_job("resume_job", "Resume"),
        "cancel": _of_job("cancel_job", "Cancel"),
    },
    "create_duplicate_job": {"job": _of_job("get_duplicate_job", "Read the job")},
    "get_duplicate_job": {"next_page": _next_page("get_duplicate_job", job_id="$request.path.job_id")},
    "list_folders": {
        "next_page": _next_page("list_folders"),
        "below": Link("list_folders", "Folders below the first", {"parent": "$response.body#/folders/0/path"}),
        "images": Link(
            "list_images",
            "Pictures in the first",
            {"folder": "$response.body#/folders/0/path", "direct": True},
        ),
    },
    "list_images": {
        "next_page": _next_page("list_images"),
        "image": _of_image("get_image", "First picture", "$response.body#/images/0/image_id"),
    },
    "get_image": {
        "thumbnail": _of_image("get_thumbnail", "Thumbnail"),
        "original": _of_image("get_original", "File"),
        "similar": Link("create_search", "Similar pictures", body={"image_id": "$response.body#/image_id"}),
    },
}
"""By the id of the operation and the name of the link; they belong to the successful answer."""
