"""Profile: how one model is served, as profiles/NAME.yaml says it.

The struct is the one definition: it parses, it refuses the unknown, `llmctl schema` and the
reference in docs/ are made from its annotations (`title` is what complaints expect).
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from llmctl.core.document import build
from llmctl.core.guard.settings import GuardOverrides
from llmctl.core.profile_parts import (
    MOST,
    MOST_SLOTS,
    Auto,
    Count,
    Draft,
    Duration,
    KvTypes,
    Pin,
    Replicas,
    Sampling,
    Text,
    Ttl,
    Zero,
    seconds,
)
from llmctl.core.profile_rules import complaints
from llmctl.core.words import DEFAULT_GROUP, NAME, RESIDENT
from llmctl.errors import ProfileError


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One model and how it is served. `name` is the file's name without `.yaml`."""

    name: str
    model: Annotated[
        Text,
        Meta(
            title="the path of a GGUF file",
            description=(
                "The model: a GGUF file, absolute, below `~`, or relative to `models_dir`; "
                "of a split file the first part."
            ),
            examples=["Qwen3-Coder-30B-A3B-Instruct-Q4_K_M.gguf"],
        ),
    ]
    binary: Annotated[
        Text,
        Meta(
            title="the name of a binary in config.yaml",
            description="The llama-server build that runs it.",
            examples=["upstream"],
        ),
    ] = "upstream"
    group: Annotated[
        Text,
        Meta(
            title="the name of a group, or none",
            description=(
                "Of a group's profiles at most one runs, or in a pool as many as fit. `none` "
                "makes a resident: it runs beside the others and needs a `port`."
            ),
            examples=["gpu", "none"],
        ),
    ] = DEFAULT_GROUP
    port: Annotated[
        Annotated[int, Meta(ge=1024, le=65535)] | None,
        Meta(
            title="a port from 1024 to 65535",
            description="Where a resident listens on loopback. A group's members have its port.",
            examples=[12400],
        ),
    ] = None
    aliases: Annotated[
        tuple[Text, ...],
        Meta(
            title="a list of names",
            description="Further names that clients may send.",
            examples=[["brainstormer"]],
        ),
    ] = ()
    ctx: Annotated[
        Annotated[int, Meta(ge=256, le=MOST)] | Auto,
        Meta(
            title="a whole number of tokens (at least 256), or auto",
            description="Context size in tokens.",
            examples=[98304, "auto"],
        ),
    ] = "auto"
    kv: Annotated[
        Text | KvTypes,
        Meta(
            title="a type such as f16, q8_0 or q4_0, or {k: TYPE, v: TYPE}",
            description="Type of the KV cache. Quantized V needs flash attention.",
            examples=["q4_0", {"k": "q8_0", "v": "q8_0"}],
        ),
    ] = "f16"
    allow_mixed_kv: Annotated[
        bool,
        Meta(
            title="true or false",
            description="Accept different types for K and V, a tenth as fast on most builds.",
            examples=[True],
        ),
    ] = False
    gpu_layers: Annotated[
        Zero | Literal["auto", "all"],
        Meta(
            title="auto, all, or a whole number of layers",
            description="Layers on the GPUs.",
            examples=["all", 40],
        ),
    ] = "auto"
    n_cpu_moe: Annotated[
        Zero | Auto,
        Meta(
            title="a whole number of layers, or auto",
            description="Experts of the first N layers stay in host memory.",
            examples=[16],
        ),
    ] = "auto"
    tensor_split: Annotated[
        tuple[Zero, ...] | Auto,
        Meta(
            title="a list of whole numbers, one per device, or auto",
            description="Units per device, in llama.cpp's own device order.",
            examples=[[37, 12]],
        ),
    ] = "auto"
    devices: Annotated[
        tuple[Text, ...] | Auto,
        Meta(
            title="a list of device names, or auto",
            description="Devices to use, named as the binary's `--list-devices` names them.",
            examples=[["CUDA0", "Vulkan1"]],
        ),
    ] = "auto"
    flash_attn: Annotated[
        Literal["on", "off", "auto"],
        Meta(title="on, off or auto", description="Flash attention.", examples=["on"]),
    ] = "on"
    parallel: Annotated[
        Annotated[int, Meta(ge=1, le=MOST_SLOTS)],
        Meta(
            title="a whole number from 1 to 256",
            description="Slots: requests served at once.",
            examples=[1],
        ),
    ] = 1
    batch: Annotated[
        Count,
        Meta(title="a whole number of tokens", description="Logical batch size.", examples=[2048]),
    ] = 2048
    ubatch: Annotated[
        Count,
        Meta(
            title="a whole number of tokens",
            description="Physical batch size; more is faster and larger.",
            examples=[512],
        ),
    ] = 512
    threads: Annotated[
        Count | None,
        Meta(
            title="a whole number, at least 1",
            description="CPU threads; llama-server's own choice when not given.",
            examples=[12],
        ),
    ] = None
    replicas: Annotated[
        Replicas,
        Meta(
            title="{max: N, idle_timeout: 10m}",
            description="Further instances that may be started when all are busy.",
            examples=[{"max": 2, "idle_timeout": "10m"}],
        ),
    ] = Replicas()
    ttl: Ttl = None
    pin: Pin = False
    draft: Annotated[
        Text | Draft,
        Meta(
            title="off, auto, mtp, ngram, a GGUF file, or {model: OF THESE, n_max: N, kv: TYPE}",
            description="Speculative decoding: what drafts.",
            examples=["off", "auto", {"model": "draft.gguf", "n_max": 8}],
        ),
    ] = "off"
    mmproj: Annotated[
        Text | None,
        Meta(
            title="the path of a GGUF file",
            description="Multimodal projector; a path as `model`'s, or beside the model.",
            examples=["mmproj-F16.gguf"],
        ),
    ] = None
    sampling: Annotated[
        Sampling,
        Meta(
            title="keys such as temperature, top_p, top_k, min_p",
            description="Defaults for requests that do not say.",
            examples=[{"temperature": 0.7, "top_p": 0.8}],
        ),
    ] = Sampling()
    fallback: Annotated[
        tuple[Text, ...],
        Meta(
            title="a list of names of profiles, or of another box's as BOX/NAME",
            description="Who answers if this one cannot.",
            examples=[["gemma4", "attic/coder"]],
        ),
    ] = ()
    stop_timeout: Annotated[
        Duration,
        Meta(
            title="a time such as 30s or 2m",
            description="How long a stop may take before systemd kills the server.",
            examples=["30s"],
        ),
    ] = "30s"
    guard: Annotated[
        GuardOverrides,
        Meta(
            title="keys of config.yaml's `guard`",
            description="How the proxy treats this model's loops; keys that are not given are "
            "config.yaml's.",
            examples=[{"exempt_tools": ["wait_*"]}],
        ),
    ] = GuardOverrides()
    env: Annotated[
        dict[str, str | int],
        Meta(
            title="names with text or whole numbers (quote anything else)",
            description="Environment of the server.",
            examples=[{"RADV_DEBUG": "nocompute"}],
        ),
    ] = {}
    args: Annotated[
        tuple[str | int, ...],
        Meta(
            title="a list of words (quote numbers with a point)",
            description="Anything llmctl has no key for, as llama-server takes it.",
            examples=[["--reasoning-budget", "8192"]],
        ),
    ] = ()

    @property
    def kv_types(self) -> KvTypes:
        """K and V apart, however they were written."""
        return self.kv if isinstance(self.kv, KvTypes) else KvTypes(k=self.kv, v=self.kv)

    @property
    def drafting(self) -> Draft:
        """What drafts, however it was written."""
        return self.draft if isinstance(self.draft, Draft) else Draft(model=self.draft)

    @property
    def is_resident(self) -> bool:
        """Runs beside the others, on a port of its own."""
        return self.group == RESIDENT

    @property
    def stop_timeout_s(self) -> float:
        """`stop_timeout` in seconds."""
        return seconds(self.stop_timeout)

    @property
    def ttl_s(self) -> float | None:
        """`ttl` in seconds; None: it stays."""
        return None if self.ttl is None else seconds(self.ttl)


def parse_profile(raw: Any, *, name: str, file: str) -> Profile:
    """The profile that a document describes; a ProfileError with every complaint otherwise.

    `raw` is what parse_yaml made of the text.
    """
    if not NAME.fullmatch(name):
        raise ProfileError(
            f'{file}: "{name}" is no profile name; expected small letters, digits, ".", "_", "-", '
            "starting with a letter or digit, at most 64",
            hint="Rename the file.",
        )
    return build(Profile, raw, file=file, fixed={"name": name}, check=complaints)


def json_schema() -> dict[str, Any]:
    """JSON Schema of a profile's file, for editors."""
    schema = msgspec.json.schema(Profile)
    properties = schema["$defs"]["Profile"]["properties"]
    properties.pop("name")
    schema["$defs"]["Profile"]["required"].remove("name")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
