"""What replicas bring, and what choosing among them costs.

    PYTHONPATH=tests:. .venv/bin/python tests/bench/replica_bench.py     (ROUNDS=5)

Needs root, for a private user manager, and finds a llama-server. Three scenes: 8 streams at a time
with one, two and three instances; the prompt tokens that are read for 4 conversations side by side,
with the proxy's choice of an instance and with each in turn; and the time of a choice. Rounds are
interleaved and medians are shown, with the least and the most; docs/performance.md says what was
seen.
"""

import asyncio
import itertools
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

from kit import mkgguf
from kit.managers import UserManager
from kit.waiting import eventually
from server.proxy_site import ProxySite, proxied
from support.asking import Reply, ask
from usermgr.site import ManagerSite

from llmctl.proxy.affinity import Keys, keys_of
from llmctl.proxy.head import Request
from llmctl.proxy.instances import Instances, Seat

KIT = pathlib.Path(__file__).resolve().parents[1] / "kit"
ROUNDS = int(os.environ.get("ROUNDS", "5"))
MOST = 3
STREAMS, TOKENS, SECONDS = 8, 40, 5.0
CONVERSATIONS, TURNS, WORDS = 4, 8, 16
PROFILE: dict[str, Any] = {
    "model": "llama-deep.gguf", "ctx": 8192, "parallel": 1, "threads": 1,
    "args": ["--chat-template", "chatml"],
}  # fmt: skip
"""chatml: a prompt has the whole conversation in it, as real ones do."""


def body(messages: Sequence[dict[str, str]], **more: Any) -> bytes:
    """A request on a connection of its own."""
    asked = {"model": "a", "messages": messages, "ignore_eos": True, "temperature": 0, **more}
    content = json.dumps(asked).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def spread(values: Sequence[float]) -> str:
    """Median, least and most."""
    return f"{statistics.median(values):9.1f} {min(values):9.1f} {max(values):9.1f}"


# Throughput


def instances(proxy: ProxySite, count: int) -> None:
    """Have so many, and no more."""
    proxy.profile("a", **PROFILE, replicas={"max": count, "idle_timeout": "10m"})
    eventually(lambda: _up(proxy) == count, 120, why=f"{count} instances", every=0.2)


def _up(proxy: ProxySite) -> int:
    """Asked for more than one can do at a time, as many come as may."""
    asked = body([{"role": "user", "content": "PLAIN"}], max_tokens=4)

    async def some() -> None:
        await asyncio.gather(*(ask(proxy.port, asked) for _ in range(MOST + 1)))

    asyncio.run(some())
    told = proxy.status()["replicas"].get("a")
    return 1 + len(told["instances"]) if told else 1


async def streamed(port: int) -> float:
    """Tokens a second that 8 clients get, who ask again and again."""
    end = time.monotonic() + SECONDS
    asked = body([{"role": "user", "content": "PLAIN"}], max_tokens=TOKENS, stream=True)

    async def client() -> int:
        count = 0
        while time.monotonic() < end:
            reply = await ask(port, asked, seconds=120)
            if not reply.is_whole:
                raise SystemExit(f"an answer was not whole: {reply}")
            count += TOKENS
        return count

    began = time.monotonic()
    tokens = sum(await asyncio.gather(*(client() for _ in range(STREAMS))))
    return tokens / (time.monotonic() - began)


def throughput(proxy: ProxySite) -> None:
    """The first scene."""
    found: dict[int, list[float]] = {count: [] for count in range(1, MOST + 1)}
    for _ in range(ROUNDS):
        for count, rates in found.items():
            instances(proxy, count)
            rates.append(asyncio.run(streamed(proxy.port)))
    print(f"\n{f'{STREAMS} streams, tokens/s':36} {'median':>9} {'least':>9} {'most':>9}   ratio")
    for count, rates in found.items():
        ratio = statistics.median(a / b for a, b in zip(rates, found[1], strict=True))
        print(f"{f'{count} instance(s)':36} {spread(rates)} {ratio:7.2f}")


# Conversations

Where = Callable[[], int]
"""The port of the next request."""


async def conversation(where: Where, name: str) -> list[tuple[int, int]]:
    """Of each turn: prompt tokens that were read, and that there were."""
    said, seen = [{"role": "system", "content": f"This is conversation {name}."}], []
    for turn in range(TURNS):
        words = " ".join(f"{name}{turn}word{n}" for n in range(WORDS))
        said.append({"role": "user", "content": words})
        reply = await ask(where(), body(said, max_tokens=8), seconds=120)
        seen.append(counted(reply))
        said.append(reply.json["choices"][0]["message"])
        await asyncio.sleep(0)
    return seen


def counted(reply: Reply) -> tuple[int, int]:
    """Prompt tokens that were read for an answer, and all of them."""
    if not reply.is_whole:
        raise SystemExit(f"an answer was not whole: {reply}")
    timings = reply.json["timings"]
    return timings["prompt_n"], timings["prompt_n"] + timings["cache_n"]


async def side_by_side(where: Where, name: str) -> list[tuple[int, int]]:
    """All conversations at the same time, each as fast as it is answered."""
    names = [f"{name}{n}x" for n in range(CONVERSATIONS)]
    found = await asyncio.gather(*(conversation(where, one) for one in names))
    return list(itertools.chain.from_iterable(found))


def affinity(proxy: ProxySite) -> None:
    """The second scene."""
    instances(proxy, MOST)
    replicas = proxy.status()["replicas"]["a"]["instances"]
    ports = itertools.cycle([proxy.site.port, *(one["port"] for one in replicas)])
    ways: dict[str, Where] = {
        "the proxy's choice": lambda: proxy.port,
        "each instance in turn": lambda: next(ports),
    }
    read: dict[str, list[float]] = {way: [] for way in ways}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    total = 0
    for turn in range(ROUNDS):
        for number, (way, where) in enumerate(ways.items()):
            began = time.monotonic()
            seen = asyncio.run(side_by_side(where, f"r{turn}w{number}c"))
            seconds[way].append(time.monotonic() - began)
            read[way].append(100 * sum(one for one, _ in seen) / sum(whole for _, whole in seen))
            total = sum(whole for _, whole in seen)
    what = f"{CONVERSATIONS} conversations of {TURNS} turns, {total} tokens"
    print(f"\n{what}: % of the prompts that was read, and seconds")
    for way in ways:
        print(f"{way:36} {spread(read[way])} %   {spread(seconds[way])} s")


# Choices


def choosing(keys: Callable[[int], Keys], *, waiting: int = 0) -> float:
    """µs for one request that comes, is seated and leaves, with three instances of four slots."""
    machine = Instances(most=MOST, slots=4)
    machine.observed([2, 3], [], 0.0)
    for number in range(waiting):
        machine.arrive(-1 - number, (-number,), 0.0)
    count = 2_000
    began = time.perf_counter()
    for ticket in range(count):
        found = machine.arrive(ticket, keys(ticket), 1.0)
        if not isinstance(found[-1], Seat):
            raise SystemExit("it was not seated")
        machine.leave(ticket, 1.0)
    return (time.perf_counter() - began) / count * 1e6


def head(*headers: tuple[bytes, bytes]) -> Request:
    """A request that came."""
    return Request(b"POST", b"/v1/chat/completions", b"", "1.1", headers)


def talk(size: int, messages: int = 20) -> bytes:
    """The body of a conversation of so many bytes."""
    said = [{"role": "user", "content": "x" * (size // messages)} for _ in range(messages)]
    return json.dumps({"model": "a", "messages": said}).encode()


def choices() -> None:
    """The third scene."""
    named = [head((b"x-session-id", b"%d" % n)) for n in range(50)]
    plain, small, large = head(), talk(4_000), talk(76_000)
    scenes: dict[str, Callable[[], float]] = {
        "of a conversation with a header": lambda: choosing(lambda n: keys_of(named[n % 50], None)),
        "4 KB of messages": lambda: choosing(lambda _: keys_of(plain, small)),
        "76 KB of messages": lambda: choosing(lambda _: keys_of(plain, large)),
        "nothing is known of it": lambda: choosing(lambda _: ()),
        "8 of 12 slots are taken": lambda: choosing(lambda _: (), waiting=8),
    }
    found: dict[str, list[float]] = {name: [] for name in scenes}
    for _ in range(max(ROUNDS, 5)):
        for name, scene in scenes.items():
            found[name].append(scene())
    print(f"\n{'a choice, µs':36} {'median':>9} {'least':>9} {'most':>9}")
    for name, times in found.items():
        print(f"{name:36} {spread(times)}")


def main() -> None:
    """All three."""
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
    choices()
    llama = subprocess.run([KIT / "find-llama.sh"], capture_output=True, text=True, check=True)
    # Not a temporary directory of the system's: units with PrivateTmp= could not see it.
    with tempfile.TemporaryDirectory(dir=pathlib.Path.home()) as models, UserManager() as manager:
        mkgguf.write(pathlib.Path(models), ["llama-deep", "llama-script", "qwen3-script"])
        site = ManagerSite(manager, llama.stdout.strip())
        site.models_dir = models
        site.configure()
        with proxied(site) as proxy:
            scenes: tuple[Callable[[ProxySite], None], ...] = (throughput, affinity)
            for scene in scenes:
                scene(proxy)
        site.close()
    print(f"\nload {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
