"""How an answer says whose it is: `X-Served-By`, and `X-Fallback-From` where others were asked
first. The head of a stream that had to be sent before that was known has neither; a comment says it
then, when the answer begins.
"""

from collections.abc import Sequence

Lines = list[tuple[bytes, bytes]]


def headers(served_by: str | None, passed: Sequence[str]) -> Lines:
    """Of an answer. passed: who was asked before, in order."""
    found = [(b"X-Served-By", served_by.encode())] if served_by else []
    if passed:
        found.append((b"X-Fallback-From", ", ".join(passed).encode()))
    return found


def comment(served_by: str | None, passed: Sequence[str]) -> bytes:
    """The same within a stream of events; clients skip it."""
    return b"".join(b": %b: %b\n" % pair for pair in headers(served_by, passed)) + b"\n"
