"""Answers to what is no request that could be served: bytes that are no HTTP, heads that are too
large, or that never end. They are noted down like all others.
"""

from typing import TYPE_CHECKING

from llmctl.proxy.answer import Answer
from llmctl.proxy.dialect import Trouble, endpoint_of
from llmctl.proxy.head import Request
from llmctl.proxy.record import Record
from llmctl.proxy.routing import strip_upstream

if TYPE_CHECKING:
    from llmctl.proxy.server import Proxy

NO_TICKET = 0
"""Of what has never been a request."""
_NOTHING = Request(b"", b"", b"", "1.1", (), keep_alive=False)


def refusal(
    proxy: "Proxy", trouble: Trouble, request: Request | None, *, peer: str, began: float
) -> bytes:
    """What is to be sent; the connection ends with it. request: its head, where there is one.
    began: when its first byte came."""
    request = request or _NOTHING
    _, path = strip_upstream(request.path)
    endpoint = endpoint_of(path)
    answer = Answer(request, endpoint, headers=proxy.headers_for(request))
    answer.closes = True
    sent = answer.trouble(trouble)
    record = Record(began=began, endpoint=endpoint.name, path=path, peer=peer)
    record.finish(proxy.now(), answer)
    proxy.note(NO_TICKET, record)
    return sent
