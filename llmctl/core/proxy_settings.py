"""The `proxy:` section of config.yaml."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from llmctl.core.profile_parts import Duration, seconds
from llmctl.core.size import parse_size

DEFAULT_LISTEN = ("127.0.0.1:1234",)
_YES = "true or false"
_TIME = "a time such as 500ms, 30s, 5m or 1h"


class ProxySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the proxy serves. Every key has a default that works."""

    listen: Annotated[
        tuple[str, ...],
        Meta(
            title="a list of addresses, each with a port (1234 without)",
            description="Where clients connect. `tailscale` is this machine's address in its "
            "tailnet.",
            examples=[["127.0.0.1:1234", "tailscale:1234"]],
        ),
    ] = DEFAULT_LISTEN
    unknown_model: Annotated[
        Literal["active", "error"],
        Meta(
            title="active or error",
            description="Who gets a request that names a model that is neither a profile nor an "
            "alias: the active model, or nobody (404).",
            examples=["error"],
        ),
    ] = "active"
    autoswitch: Annotated[
        bool,
        Meta(
            title=_YES,
            description="Whether a request for a model that does not run switches to it; else it "
            "gets 409, with what to type.",
            examples=[False],
        ),
    ] = True
    max_wait: Annotated[
        Duration,
        Meta(
            title=_TIME,
            description="How long requests for another model wait while the running one has work; "
            "after that it gets no further requests.",
            examples=["1m"],
        ),
    ] = "30s"
    drain_timeout: Annotated[
        Duration,
        Meta(
            title=_TIME,
            description="How long what is under way may then go on before it is cut.",
            examples=["10m"],
        ),
    ] = "5m"
    switch_timeout: Annotated[
        Duration,
        Meta(
            title=_TIME,
            description="How long a model may take to become ready without making progress.",
            examples=["5m"],
        ),
    ] = "2m"
    stop_timeout: Annotated[
        Duration,
        Meta(
            title=_TIME,
            description="How long answers under way may go on when the proxy is stopped or "
            "restarted.",
            examples=["5m"],
        ),
    ] = "30s"
    hang_timeout: Annotated[
        Duration,
        Meta(
            title=_TIME,
            description="How long a server that was ready may be silent before it is restarted.",
            examples=["1m"],
        ),
    ] = "30s"
    stall_timeout: Annotated[
        Duration,
        Meta(
            title=_TIME,
            description="How long a server that has work may get nowhere (no prompt read, no token "
            "written) before it is restarted. A batch of a prompt, or an image, must be done by "
            "then.",
            examples=["30m"],
        ),
    ] = "10m"
    max_body: Annotated[
        str | int,
        Meta(
            title="a size such as 64MiB",
            description="The largest body of a request; beyond it is 413.",
            examples=["256MiB"],
        ),
    ] = "64MiB"
    max_queue: Annotated[
        int,
        Meta(
            ge=1,
            title="a whole number, at least 1",
            description="How many requests may wait for a model of one group; beyond it is 503.",
            examples=[64],
        ),
    ] = 512
    loading_messages: Annotated[
        bool,
        Meta(
            title=_YES,
            description="Whether streaming chat clients are told how far a load is, as reasoning.",
            examples=[True],
        ),
    ] = False
    api_keys: Annotated[
        str | None,
        Meta(
            title="the path of a file",
            description="API keys that clients must have.",
            examples=["~/.config/llmctl/keys"],
        ),
    ] = None
    allow_keyless: Annotated[
        bool,
        Meta(
            title=_YES,
            description="Whether other machines may be served without API keys.",
            examples=[True],
        ),
    ] = False
    cors: Annotated[
        tuple[str, ...],
        Meta(
            title="a list of origins",
            description="Web pages that may ask from a browser.",
            examples=[["https://chat.example.org"]],
        ),
    ] = ()
    hosts: Annotated[
        tuple[str, ...],
        Meta(
            title="a list of names",
            description="Names with a dot by which clients without a key reach this machine.",
            examples=[["box.tail1234.ts.net"]],
        ),
    ] = ()
    request_log: Annotated[
        bool,
        Meta(
            title="true or false",
            description="Whether requests are written down, without their content, for "
            "`llmctl requests`.",
            examples=[False],
        ),
    ] = True

    @property
    def max_body_bytes(self) -> int:
        """max_body."""
        return parse_size(self.max_body)

    @property
    def max_wait_s(self) -> float:
        """max_wait."""
        return seconds(self.max_wait)

    @property
    def drain_timeout_s(self) -> float:
        """drain_timeout."""
        return seconds(self.drain_timeout)

    @property
    def switch_timeout_s(self) -> float:
        """switch_timeout."""
        return seconds(self.switch_timeout)

    @property
    def stop_timeout_s(self) -> float:
        """stop_timeout."""
        return seconds(self.stop_timeout)

    @property
    def hang_timeout_s(self) -> float:
        """hang_timeout."""
        return seconds(self.hang_timeout)

    @property
    def stall_timeout_s(self) -> float:
        """stall_timeout."""
        return seconds(self.stall_timeout)


Complaint = tuple[tuple[str | int, ...], str]


def proxy_complaints(settings: ProxySettings, ports: Mapping[int, str]) -> Iterator[Complaint]:
    """What is wrong with the section beyond its types. ports: those of groups."""
    try:
        if settings.max_body_bytes == 0:
            yield ("max_body",), "expected more than nothing"
    except ValueError as error:
        yield ("max_body",), str(error)
    if settings.listen != DEFAULT_LISTEN:
        from llmctl.core.listening import listen_complaints  # ipaddress: 4 ms for `status`

        for number, text in listen_complaints(settings.listen, ports):
            yield ("listen",) if number is None else ("listen", number), text
    elif 1234 in ports:
        yield ("listen", 0), f"port 1234 is group {ports[1234]}'s"
