"""python still_proxy.py PORT [SETTINGS]: the proxy as a process of its own, before one server on
that port. SETTINGS: those of its guard, as JSON; without them it is off.

Says its own port on stdout, and then serves until it is killed.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]


async def serve(port: int, guard: str) -> None:
    import msgspec
    from support.wire import StillKeeper

    from llmctl.core.guard.settings import GuardSettings
    from llmctl.core.proxy_settings import ProxySettings
    from llmctl.proxy.client import Client
    from llmctl.proxy.server import Proxy
    from llmctl.proxy.tasks import spawn

    settings = msgspec.json.decode(guard, type=GuardSettings)
    proxy = Proxy(StillKeeper(settings=ProxySettings(), port=port, guard=settings))
    await proxy.board.look()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Client(proxy), "127.0.0.1", 0, backlog=4096)
    spawn(proxy.board.watch(), name="watch")
    spawn(proxy.tick(), name="tick")
    gc.collect()
    gc.freeze()
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2] if sys.argv[2:] else '{"mode": "off"}'))
