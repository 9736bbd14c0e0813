"""What a large body asks for, found in a process of its own.

To check 64 MB of JSON takes 16 ms (an image), 20 ms (a chat), 85 ms (backslashes) or 250 ms
(brackets), and all streams stand still meanwhile. A thread changes nothing: msgspec does not let go
of the interpreter's lock. A process costs some 50 ms; a body of that size takes longer to come.
"""

import asyncio
import sys
from collections.abc import Callable
from weakref import WeakKeyDictionary

import msgspec

from llmctl.proxy.asked import Asked, asked
from llmctl.proxy.dialect import OTHER, Endpoint, Trouble
from llmctl.proxy.head import Request
from llmctl.proxy.looker import Question, Reply
from llmctl.proxy.spool import Spool
from llmctl.proxy.tasks import log, spawn

LARGE = 8 << 20
"""Bytes. A body of fewer takes 2 ms, and 30 ms where it is all brackets."""
MODULE = "llmctl.proxy.looker"
AT_ONCE = 2
"""Processes; further bodies wait for them."""
TIMEOUT_S = 30.0

Understood = Callable[[Asked | Trouble], None]
_turns: "WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]" = WeakKeyDictionary()
_TOO_LONG = Trouble(503, "busy", "The body could not be looked at in time.", retry_after_s=5)


def look(request: Request, endpoint: Endpoint, body: Spool | None, understood: Understood) -> None:
    """What a whole request asks for: told at once, or later where its body is large."""
    if body is not None and body.nbytes > LARGE and body.descriptor is not None:
        spawn(_look_aside(request, endpoint, body, understood), name="look at a body")
    else:
        understood(asked(request, endpoint, body.whole() if body is not None else b""))


async def _look_aside(
    request: Request, endpoint: Endpoint, body: Spool, understood: Understood
) -> None:
    question = Question(request.method, request.header(b"content-type"), endpoint is OTHER)
    async with _turns.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE)):
        if body.descriptor is None:
            return  # its client has gone
        try:
            async with asyncio.timeout(TIMEOUT_S):
                found = await _ask(question, body.descriptor)
        except TimeoutError:
            found = _TOO_LONG
        except OSError as error:
            log(f"a body is looked at here, since no process can be started: {error}")
            found = asked(request, endpoint, body.whole())
    understood(found)


async def _ask(question: Question, descriptor: int) -> Asked | Trouble:
    """OSError: no process, or none that says anything."""
    argv = (sys.executable, "-P", "-m", MODULE, msgspec.json.encode(question).decode())
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=descriptor, stdout=asyncio.subprocess.PIPE
    )
    try:
        told, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    try:
        reply = msgspec.json.decode(told, type=Reply)
    except msgspec.DecodeError:
        raise OSError(f"it ended with {process.returncode}") from None
    found = reply.asked or reply.trouble
    if found is None:
        raise OSError("it says nothing")
    return found
