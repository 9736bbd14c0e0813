"""A pool by hand, on a real llama-server and a real user manager: llmctl switch, off, status."""

from __future__ import annotations

import contextlib
import http.client
import json
from typing import TYPE_CHECKING, Any

from usermgr.site import to_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usermgr.site import ManagerSite

DOES_NOT_FIT = 4
TWO_FIT = {"RAM": {"total": "130MiB", "reserve": 0}}
"""Each of them needs about 52 MiB: 32 for a context of 16384 tokens, and 19 to compute with."""


def member(site: ManagerSite, name: str, **keys: Any) -> None:
    content = {"model": "llama-script.gguf", "ctx": 16384, "threads": 1, **keys}
    site.put({site.profile_path(name): to_yaml(content)})


def pool(site: ManagerSite) -> None:
    """a, b and c, of which two fit; a can go on for ever."""
    site.configure(groups={"gpu": {"port": site.port, "mode": "pool"}}, devices=TWO_FIT)
    member(site, "a", args=["--context-shift"])
    member(site, "b")
    member(site, "c")
    site.llmctl("apply")


def pid(site: ManagerSite, name: str) -> str:
    return site.show(f"llm-{name}.service", "MainPID")


@contextlib.contextmanager
def endless(port: int) -> Iterator[http.client.HTTPResponse]:
    """An answer that does not end as long as somebody listens, begun."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    body = {"messages": [{"role": "user", "content": "LOOP"}], "stream": True}
    connection.request("POST", "/v1/chat/completions", json.dumps(body))
    answer = connection.getresponse()
    assert answer.readline().startswith(b"data: ")
    yield answer
    connection.close()


def test_a_pool_by_hand(site: ManagerSite) -> None:
    pool(site)
    ports = {name: site.json("switch", name)["url"].rpartition(":")[2] for name in "ab"}
    assert ports == {"a": str(site.port + 10), "b": str(site.port + 20)}
    pids = {name: pid(site, name) for name in "ab"}
    (group,) = site.status()["groups"]
    assert (group["mode"], group["running"], group["faults"]) == ("pool", ["a", "b"], [])
    with endless(site.port + 10) as answer:
        dry = site.json("switch", "c", "--dry-run")["steps"]
        assert dry[0] == "stop llm-b.service"
        assert site.active_units() == {"llm-a.service", "llm-b.service"}
        done = site.json("switch", "c")
        assert (done["previous"], done["state"], done["stopped"]) == (None, "ready", ["b"])
        assert site.active_units() == {"llm-a.service", "llm-c.service"}
        member(site, "c", pin=True)
        told = site.json("switch", "b", status=DOES_NOT_FIT)["error"]
        assert told["message"].startswith("b does not fit: host needs ")
        assert " MiB (busy), c holds " in told["message"]
        assert told["message"].endswith(" MiB (pinned).")
        assert told["hint"] == "Try again when a is idle, or type: llmctl off a"
        assert site.active_units() == {"llm-a.service", "llm-c.service"}
        assert answer.readline()
    assert pid(site, "a") == pids["a"]
    assert site.json("off", "c") == {"stopped": ["c"]}
    assert site.json("switch", "b")["stopped"] == []
    assert site.active_units() == {"llm-a.service", "llm-b.service"}
    assert site.json("off") == {"stopped": ["a", "b"]}
