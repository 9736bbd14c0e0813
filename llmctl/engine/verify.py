"""llama.cpp's own estimate of a plan: llama-fit-params, where it lies beside the binary.

It is a second opinion, and not the truth: it counts whole MiB, no projector and nothing that
drafts, and more compute than a server uses, since it reserves the logits of a whole batch
(llama-server those of its slots: ggml-org/llama.cpp#23861).
"""

import re
from collections.abc import Iterator, Sequence

import msgspec

from llmctl.core.memory.request import words_of
from llmctl.core.memory.settings import MIB, Settings
from llmctl.core.memory.wanted import Plan
from llmctl.core.profile import Profile
from llmctl.engine.box import Box
from llmctl.errors import HostError, ProfileError
from llmctl.store.binaries import argv_with

TOOL = "llama-fit-params"
TIMEOUT_S = 30.0
_LINE = re.compile(r"(\S+) (\d{1,9}) (\d{1,9}) (\d{1,9})")
_QUIET = {"GGML_NO_BACKTRACE": "1"}  # a tool that dies would start gdb, and hang on it


class Opinion(msgspec.Struct, frozen=True):
    """One device as the tool sees it, in whole MiB. context: K/V and state."""

    name: str
    weights_bytes: int
    context_bytes: int
    compute_bytes: int


class Verified(msgspec.Struct, frozen=True):
    """The answer of the tool at this path."""

    tool: str
    opinions: tuple[Opinion, ...]


def verify(box: Box, profile: Profile, model: str, plan: Plan) -> Verified:
    """Ask the tool beside a profile's binary about a plan of the model at this path.

    ProfileError: it is not there. HostError: it does not end in time, or refuses.
    """
    binary, server = box.store.binary(profile), box.store.binary_path(profile)
    tool = f"{server.rpartition('/')[0]}/{TOOL}"
    if box.host.which(tool) is None:
        raise ProfileError(
            f"there is no {TOOL} beside {server}.",
            hint=f"It comes with llama.cpp: cmake --build build --target {TOOL}, or link the one"
            " of the same build to there.",
        )
    words = (*words_of(plan), *_more(plan.settings), *_devices(profile))
    environment = {**_QUIET, **binary.env, **profile.env}
    argv = argv_with(environment, tool, "-m", model, *words, "--no-repack", "-fitp", "on")
    said = box.host.run(argv, timeout=TIMEOUT_S)
    found = tuple(parse(said.stdout))
    if not said.ok or not found:
        raise HostError(
            f"{tool} gave no answer: {_complaint(said.stderr)}",
            hint=f"Run it yourself: {_typed(argv)}",
        )
    return Verified(tool, found)


def parse(text: str) -> Iterator[Opinion]:
    """Lines of `NAME MODEL CONTEXT COMPUTE`, in MiB."""
    for line in text.splitlines():
        if match := _LINE.fullmatch(line.strip()):
            name = "host" if match[1] in ("Host", "CPU") else match[1]
            yield Opinion(name, *(int(one) * MIB for one in match.groups()[1:]))


def _more(settings: Settings) -> Iterator[str]:
    """What words_of leaves to the profile's args."""
    if settings.split_mode != "layer":
        yield from ("-sm", settings.split_mode)
    if settings.main_gpu:
        yield from ("-mg", str(settings.main_gpu))
    for is_set, flag in (
        (not settings.kv_offload, "-nkvo"), (settings.swa_full, "--swa-full"),
        (not settings.op_offload, "--no-op-offload"),
    ):  # fmt: skip
        if is_set:
            yield flag


def _devices(profile: Profile) -> Sequence[str]:
    return () if profile.devices == "auto" else ("-dev", ",".join(profile.devices))


def _typed(argv: Sequence[str]) -> str:
    import shlex  # only complaints need it

    return shlex.join(argv)


def _complaint(stderr: str) -> str:
    """The line that says why: the first error, else the last line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = (line for line in lines if " E " in line or line.startswith("error"))
    return next(errors, lines[-1] if lines else "it said nothing")
