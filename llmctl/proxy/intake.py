"""What is taken of a request's body: no more than is allowed, as long as there is room for it."""

from llmctl.proxy.dialect import Trouble
from llmctl.proxy.head import Request
from llmctl.proxy.spool import Spool


def announced(request: Request, most: int) -> Trouble | None:
    """Is the body that the head speaks of too large? most: bytes."""
    return too_large(most) if (request.length or 0) > most else None


def taken(spool: Spool, data: bytes, most: int) -> Trouble | None:
    """Keep more of it; or why not."""
    if spool.nbytes + len(data) > most:
        return too_large(most)
    try:
        spool.write(data)
    except OSError as error:
        return Trouble(503, "no_room", f"The body could not be kept: {error.strerror}.")
    return None


def too_large(most: int) -> Trouble:
    """The refusal."""
    return Trouble(413, "body_too_large", f"A body may have {most} bytes (proxy: max_body).")
