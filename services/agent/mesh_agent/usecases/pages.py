"""Pages of lists, bounded by items and by bytes: a page must fit one message whatever its items hold."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mesh_common.grpc.message_size import MAX_PAGE_BYTES

from mesh_agent.domain.threads import Metadata


@dataclass(frozen=True, slots=True)
class Page[T]:
    items: list[T]
    next_cursor: str | None


def first_page[T](rows: Sequence[T], limit: int, size: Callable[[T], int]) -> tuple[list[T], bool]:
    """The rows of one page, and whether more follow. `rows` are up to `limit` + 1; `size` is in bytes."""
    page: list[T] = []
    left = MAX_PAGE_BYTES
    for row in rows[:limit]:
        left -= size(row)
        if left < 0 and page:
            break
        page.append(row)
    return page, len(rows) > len(page)


def text_bytes(*texts: str) -> int:
    return sum(len(text.encode()) for text in texts)


def metadata_bytes(metadata: Metadata) -> int:
    return sum(text_bytes(key, value) for key, value in metadata.items())
