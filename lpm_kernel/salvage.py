"""What can still be read of a damaged SQLite file: the text rows of its tables, page by page, without SQLite.

A page that is zeroed, or a schema that is gone, costs what lay in it and nothing else: neither index nor tree is
followed. File format: https://www.sqlite.org/fileformat2.html (b-tree pages, 1.6; records, 2.1; the WAL, 4.1).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

PAGE_BYTES = 4096
"""Where the file's header does not tell: SQLite's default, and ours."""
FILE_HEADER_BYTES = 100
WAL_HEADER_BYTES, FRAME_HEADER_BYTES = 32, 24
TABLE_LEAF = 13
Pages = Mapping[int, bytes]
"""Number, from 1 -> content."""
Row = tuple[str | None, ...]


def text_rows(path: Path) -> Iterator[Row]:
    """Every row of only text and NULL columns, those in the write-ahead log last; some may come twice."""
    raw = path.read_bytes()
    size = _page_size(raw)
    pages = {number + 1: raw[start : start + size] for number, start in enumerate(range(0, len(raw), size))}
    yield from _rows(pages, size)
    logged = _logged_pages(path.with_name(f"{path.name}-wal"), size)
    if logged:
        yield from _rows(pages | logged, size)


def _page_size(raw: bytes) -> int:
    told = int.from_bytes(raw[16:18], "big")
    told = 65536 if told == 1 else told
    return told if told >= 512 and told & (told - 1) == 0 else PAGE_BYTES


def _logged_pages(path: Path, size: int) -> dict[int, bytes]:
    """The latest content of each page in the write-ahead log; frames of another salt are of an earlier round."""
    if not path.is_file():
        return {}
    raw = path.read_bytes()
    salt, found = raw[16:24], {}
    for start in range(WAL_HEADER_BYTES, len(raw) - FRAME_HEADER_BYTES - size + 1, FRAME_HEADER_BYTES + size):
        if raw[start + 8 : start + 16] == salt:
            begin = start + FRAME_HEADER_BYTES
            found[int.from_bytes(raw[start : start + 4], "big")] = raw[begin : begin + size]
    return found


def _rows(pages: Pages, size: int) -> Iterator[Row]:
    for number, page in pages.items():
        start = FILE_HEADER_BYTES if number == 1 else 0
        if page[start : start + 1] != bytes([TABLE_LEAF]):
            continue
        cells = int.from_bytes(page[start + 3 : start + 5], "big")
        for place in range(start + 8, min(start + 8 + 2 * cells, len(page) - 1), 2):
            row = _row(pages, page, int.from_bytes(page[place : place + 2], "big"), size)
            if row is not None:
                yield row


def _row(pages: Pages, page: bytes, start: int, size: int) -> Row | None:
    """The row of the cell that begins there; None where it is no row of text."""
    try:
        length, start = _varint(page, start)
        _, start = _varint(page, start)
        payload = _payload(pages, page, start, length, size)
        header_length, at = _varint(payload, 0)
        begin, columns = header_length, []
        while at < header_length:
            kind, at = _varint(payload, at)
            if kind and (kind < 13 or kind % 2 == 0):
                return None
            width = (kind - 13) // 2 if kind else 0
            if begin + width > len(payload):
                return None
            columns.append(payload[begin : begin + width].decode("utf-8") if kind else None)
            begin += width
    except (IndexError, KeyError, UnicodeDecodeError):
        return None  # cut, overwritten, or its overflow page is gone
    return tuple(columns)


def _payload(pages: Pages, page: bytes, start: int, length: int, size: int) -> bytes:
    """The bytes of a row, of which a page holds only so many and a chain of overflow pages the rest."""
    most, least = size - 35, (size - 12) * 32 // 255 - 23
    kept = least + (length - least) % (size - 4)
    here = length if length <= most else kept if kept <= most else least
    payload, following = page[start : start + here], page[start + here : start + here + 4]
    while len(payload) < length:
        overflow = pages[int.from_bytes(following, "big")]
        payload, following = payload + overflow[4 : 4 + length - len(payload)], overflow[:4]
        if len(overflow) <= 4:
            raise IndexError
    return payload


def _varint(raw: bytes, start: int) -> tuple[int, int]:
    """A number of 1 to 9 bytes, and where the next thing begins."""
    value = 0
    for place in range(start, start + 8):
        value = value << 7 | raw[place] & 127
        if raw[place] < 128:
            return value, place + 1
    return value << 8 | raw[start + 8], start + 9
