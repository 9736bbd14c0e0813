"""API keys, the request log and the counts, with real servers behind a real proxy."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from kit.waiting import eventually
from server.proxy_site import TWO, ProxySite, proxied
from support.asking import Reply, ask, question
from support.prometheus import parse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usermgr.site import ManagerSite

LAPTOP, GUEST = "sk-laptop-0123456789abcdef", "sk-guest-fedcba9876543210"
KEYS = f"""\
- {{name: laptop, key: {LAPTOP}, admin: true}}
- {{name: guest, key: {GUEST}, models: [a]}}
"""


def write_keys(site: ManagerSite, text: str = KEYS) -> None:
    path = Path(site.config_dir, "keys")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)


@contextlib.contextmanager
def with_keys(site: ManagerSite) -> Iterator[ProxySite]:
    """A proxy whose clients need keys."""
    write_keys(site)
    made = ProxySite(site, TWO, api_keys="keys")
    try:
        eventually(lambda: len(models(made, LAPTOP)) == 2, why="both profiles are seen")
        yield made
    finally:
        made.close()


@pytest.fixture
def keyed(site: ManagerSite) -> Iterator[ProxySite]:
    with with_keys(site) as made:
        yield made


def with_key(request: bytes, key: str) -> bytes:
    line, _, rest = request.partition(b"\r\n")
    return b"%b\r\nAuthorization: Bearer %b\r\n%b" % (line, key.encode(), rest)


def page(proxy: ProxySite, path: str, key: str = "", *, port: int = 0) -> Reply:
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    return asyncio.run(ask(port or proxy.port, with_key(request, key) if key else request))


def models(proxy: ProxySite, key: str) -> list[str]:
    return [one["id"] for one in page(proxy, "/v1/models", key).json["data"]]


def chat(proxy: ProxySite, model: str, key: str = "", **more: Any) -> Reply:
    request = question(model, max_tokens=8, **more)
    return asyncio.run(ask(proxy.port, with_key(request, key) if key else request))


def server_key(proxy: ProxySite) -> str:
    return proxy.site.read(f"{proxy.site.state_dir}/server.key").strip()


def test_a_key_opens_what_it_is_for_and_the_loopback_port_is_no_way_around(
    keyed: ProxySite,
) -> None:
    assert chat(keyed, "a").status == 401
    assert chat(keyed, "a", "sk-nonsense-0123456789").status == 401
    assert models(keyed, GUEST) == ["a"]
    assert chat(keyed, "b", GUEST).error == "llmctl_model_not_allowed"
    for name, key in (("a", GUEST), ("b", LAPTOP), ("a", LAPTOP)):
        reply = chat(keyed, name, key, stream=True)
        assert reply.is_whole
        assert (reply.models, reply.served_by) == ({name}, name)
        assert page(keyed, "/v1/models", port=keyed.site.port).status == 401
        assert page(keyed, "/v1/models", key, port=keyed.site.port).status == 401
        inside = page(keyed, "/v1/models", server_key(keyed), port=keyed.site.port)
        assert inside.json["data"][0]["id"] == name
    assert page(keyed, "/slots", GUEST).status == 403
    assert page(keyed, "/slots", LAPTOP).status == 200
    assert keyed.site.status()["instances"][0]["state"] == "ready"


def test_a_key_is_known_as_soon_as_it_is_written(keyed: ProxySite) -> None:
    """Whoever has just been given one tries it at once."""
    for number in range(5):
        key = f"sk-of-number-{number}-0123456789"
        assert page(keyed, "/v1/models", key).status == 401
        write_keys(keyed.site, f"{KEYS}- {{name: n{number}, key: {key}}}\n")
        assert models(keyed, key) == ["a", "b"]


def test_keys_are_taken_up_and_taken_back_without_a_restart(keyed: ProxySite) -> None:
    write_keys(keyed.site, KEYS.splitlines(keepends=True)[0])
    eventually(lambda: page(keyed, "/v1/models", GUEST).status == 401, 20, why="guest is out")
    Path(keyed.site.config_dir, "keys").write_text("- [")
    eventually(lambda: told(keyed)["problems"], 20, why="the broken file is a problem")
    assert models(keyed, LAPTOP) == ["a", "b"]


def told(proxy: ProxySite) -> Any:
    return page(proxy, "/llmctl/status").json


COMMANDS = (
    ["logs", "a"], ["logs", "b"], ["status", "--verbose"], ["show", "a"], ["render", "a"],
    ["requests"], ["requests", "--json"], ["apply", "--check"],
)  # fmt: skip


def said(proxy: ProxySite) -> bytes:
    """All that anybody could read of it: files, journals, command lines, pages."""
    site = proxy.site
    kept = [f"{site.config_dir}/keys", f"{site.state_dir}/server.key"]
    files = (one for one in Path(site.home).rglob("*") if one.is_file() and str(one) not in kept)
    texts = [one.read_bytes() for one in files if one.suffix != ".gguf"]
    texts += [one.read_bytes() for one in Path("/proc").glob("[0-9]*/cmdline") if one.exists()]
    for words in COMMANDS:
        done = site.llmctl(*words, status=None)
        texts += [done.stdout.encode(), done.stderr.encode()]
    texts += [page(proxy, path, LAPTOP).body for path in ("/metrics", "/llmctl/status")]
    return b"\n".join(texts)


def test_no_secret_is_anywhere(site: ManagerSite, capfd: pytest.CaptureFixture[str]) -> None:
    with with_keys(site) as proxy:
        for name, key in (("a", LAPTOP), ("b", LAPTOP), ("b", GUEST), ("a", "sk-wrong-0123456789")):
            chat(proxy, name, key)
        Path(site.config_dir, "keys").write_text(KEYS + f"- {{name: {LAPTOP} x, kez: {GUEST}}}\n")
        proxy.reload()
        eventually(lambda: told(proxy)["problems"], 20, why="the broken file is a problem")
        eventually(lambda: "laptop" in site.llmctl("requests").stdout, why="the log is written")
        text, secrets = said(proxy), [LAPTOP, GUEST, server_key(proxy), "sk-wrong-0123456789"]
        assert text.count(b"--api-key-file") > 3  # so command lines and units were read
    out, err = capfd.readouterr()
    assert "has a key that is none of" in err  # so what the proxy wrote was read
    assert [one for one in secrets if one.encode() in text or one in out + err] == []


SHAPES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "PLAIN"}]},
    "/v1/messages": {"messages": [{"role": "user", "content": "PLAIN"}]},
    "/v1/responses": {"input": "PLAIN"},
    "/v1/completions": {"prompt": "w001", "temperature": 0},  # else it may end before its limit
}


def test_what_real_servers_count_is_written_down(site: ManagerSite) -> None:
    with proxied(site) as proxy:
        for path, body in SHAPES.items():
            for stream in (False, True):
                limit = "max_output_tokens" if path == "/v1/responses" else "max_tokens"
                request = shaped(path, {"model": "a", "stream": stream, limit: 5, **body})
                assert asyncio.run(ask(proxy.port, request)).status == 200
        done = 2 * len(SHAPES)
        eventually(lambda: len(site.json("requests")) == done, why="the log is written")
        for one in site.json("requests"):
            assert (one["served"], one["outcome"]) == ("a", "ok")
            assert one["tokens_out"] == 5, one
            assert one["tokens_in"] > 0, one
            assert (one["ttft_s"] is not None) == one["stream"]
        found = parse(page(proxy, "/metrics").body.decode())
        tokens = found["llmctl_tokens_total"].samples
        way = (("model", "a"), ("direction", "out"))
        assert tokens["llmctl_tokens_total", way] == 5 * done
        (switches,) = found["llmctl_switches_total"].samples.values()
        assert switches == 1


def shaped(path: str, body: dict[str, Any]) -> bytes:
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def test_requests_are_followed_over_a_rotation(site: ManagerSite) -> None:
    with proxied(site) as proxy:
        chat(proxy, "a")
        eventually(lambda: site.json("requests"), why="the log is written")
        following = site.popen("requests", "-f", "--json", "-n", "1")
        assert following.stdout is not None
        assert json.loads(following.stdout.readline())["endpoint"] == "chat"  # so it has begun
        log = Path(site.state_dir, "requests.jsonl")
        for name in ("before", "after"):
            asyncio.run(ask(proxy.port, question("a", max_tokens=1, path=f"/tokenize?{name}")))
            assert json.loads(following.stdout.readline())["path"] == "/tokenize"
            log.replace(f"{log}.1")  # as the proxy does when it is full


def test_a_watcher_sees_a_switch(site: ManagerSite) -> None:
    async def watch(proxy: ProxySite) -> list[dict[str, Any]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"GET /llmctl/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        asked = asyncio.ensure_future(ask(proxy.port, question("b", max_tokens=1)))
        seen: list[dict[str, Any]] = []
        async with asyncio.timeout(60):
            while not any(one.get("state") == "ended" for one in seen):
                line = await reader.readline()
                if line.startswith(b"data: "):
                    seen.append(json.loads(line[6:]))
        writer.close()
        assert (await asked).is_whole
        return seen

    with proxied(site) as proxy:
        states = [one["state"] for one in asyncio.run(watch(proxy)) if one["state"] != "loading"]
        assert [one for one in states if one in ("began", "ok", "admitted", "ended")] == [
            "began", "began", "ok", "admitted", "ended",
        ]  # fmt: skip
        eventually(proxy.is_idle)


def test_a_browser_on_another_page_gets_nothing(site: ManagerSite) -> None:
    with proxied(site) as proxy:
        request = question("a").replace(b"\r\n", b"\r\nOrigin: https://evil.example\r\n", 1)
        assert asyncio.run(ask(proxy.port, request)).status == 403
        rebound = question("a").replace(b"Host: localhost", b"Host: evil.example", 1)
        assert asyncio.run(ask(proxy.port, rebound)).status == 403
        assert proxy.queue()["switches"] == 0


def test_the_sdks_raise_their_own_errors_for_a_wrong_key(keyed: ProxySite) -> None:
    script = f"""
import anthropic, openai
url = "http://127.0.0.1:{keyed.port}"
for make in (
    lambda: openai.OpenAI(base_url=url + "/v1", api_key="wrong").models.list(),
    lambda: anthropic.Anthropic(base_url=url, api_key="wrong").messages.create(
        model="a", max_tokens=5, messages=[{{"role": "user", "content": "hi"}}]),
):
    try:
        make()
    except (openai.AuthenticationError, anthropic.AuthenticationError) as error:
        print(type(error).__module__.split(".")[0], error.status_code)
made = openai.OpenAI(base_url=url + "/v1", api_key="{LAPTOP}").chat.completions.create(
    model="a", max_tokens=5, messages=[{{"role": "user", "content": "hi"}}])
print(made.model)
made = anthropic.Anthropic(base_url=url, api_key="{LAPTOP}").messages.create(
    model="a", max_tokens=5, messages=[{{"role": "user", "content": "hi"}}])
print(made.model)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == ["openai", "401", "anthropic", "401", "a", "a"], done.stderr


def own_address() -> str:
    """An address of this machine that others could reach."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            one.connect(("192.0.2.1", 9))  # for documentation (RFC 5737); nothing is sent
        except OSError:
            pytest.skip("this machine has no address but loopback")
        return str(one.getsockname()[0])


def test_other_machines_are_not_served_without_keys(site: ManagerSite) -> None:
    """Each request is looked at: what was allowed when the sockets were opened may not be now."""
    address = own_address()
    with proxied(site) as proxy:
        request = f"GET /v1/models HTTP/1.0\r\nHost: {address}\r\n\r\n".encode()

        def status() -> int:
            return asyncio.run(ask(proxy.port, request, host=address)).status

        proxy.configure(listen=[f"0.0.0.0:{proxy.port}"], allow_keyless=True)
        proxy.kill()
        proxy.again()
        eventually(lambda: status() == 200, why="everybody may")
        proxy.configure(listen=[f"0.0.0.0:{proxy.port}"])
        proxy.reload()
        eventually(lambda: status() == 403, why="nobody else may")
        assert page(proxy, "/v1/models").status == 200
