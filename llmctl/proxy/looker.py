"""python -m llmctl.proxy.looker QUESTION: what the body that is stdin asks for (aside.py).

It imports little: whoever sent the body waits for it.
"""

import mmap
import os
import sys

import msgspec

from llmctl.proxy.asked import Asked, asked
from llmctl.proxy.dialect import OTHER, Endpoint, Trouble
from llmctl.proxy.head import Request


class Question(msgspec.Struct):
    """What must be known of a request to understand its body."""

    method: bytes
    kind: bytes | None
    is_other: bool


class Reply(msgspec.Struct):
    """One of both."""

    asked: Asked | None = None
    trouble: Trouble | None = None


def main() -> None:
    """Answer one question about the file that is stdin."""
    question = msgspec.json.decode(sys.argv[1], type=Question)
    endpoint = OTHER if question.is_other else Endpoint("any")
    head = () if question.kind is None else ((b"content-type", question.kind),)
    request = Request(question.method, b"/", b"", "1.1", head)
    with mmap.mmap(0, 0, access=mmap.ACCESS_READ) as body:
        found = asked(request, endpoint, body)
    reply = Reply(trouble=found) if isinstance(found, Trouble) else Reply(asked=found)
    os.write(1, msgspec.json.encode(reply))


if __name__ == "__main__":
    main()
