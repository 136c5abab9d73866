"""Finds where an HTTP answer's head ends, and sets interim answers (1xx) apart."""

import re

HEAD_END = re.compile(rb"\n\r?\n")  # lenient as Twisted's parser: LF alone ends a line
INTERIM = re.compile(rb"HTTP/\d\.\d 1\d\d(?=[ \r\n])")
NAMED_AT_MOST = 16


def split_interim(data: bytes) -> tuple[list[str], bytes, int]:
    """Split an answer into names of its interim answers, the final answer and the length of its head.

    A head that has not ended counts whole. An interim answer that has not ended is left as it is.
    """
    names: list[str] = []
    start = more = 0
    while INTERIM.match(data, start) and (end := HEAD_END.search(data, start)):
        if len(names) < NAMED_AT_MOST:
            names.append(_name(data[start : end.start()]))
        else:
            more += 1
        start = end.end()
    if more:
        names.append(f"and {more} more")
    final = data[start:] if start else data
    end = HEAD_END.search(final)
    return names, final, end.end() if end else len(final)


def _name(head: bytes) -> str:
    status = head.partition(b"\n")[0].partition(b" ")[2]
    text = status.decode("latin-1").strip()[:200]
    return "".join(char if char.isprintable() else "?" for char in text)
