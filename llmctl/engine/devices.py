"""The devices of a box, as the binary sees them: asked anew each time, since free memory changes.

Nothing here fails because of a tool: one that hangs, is broken or is not there is a warning, and
what the others know counts.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from llmctl.core.card_match import match_cards, visible
from llmctl.core.cards import (
    AMDGPU_FILES,
    DRM,
    SMI_ARGV,
    Card,
    Listed,
    card_names,
    connectors,
    merged,
    parse_complaints,
    parse_list_devices,
    parse_meminfo,
    parse_nvidia_smi,
    smi_complaint,
    sysfs_card,
)
from llmctl.core.config import Binary, Config
from llmctl.core.devices import Gpu, Ram, declare, declare_ram, enrich, guessed, has_totals
from llmctl.core.profile import Profile
from llmctl.engine.box import Box
from llmctl.errors import HostError, ProfileError
from llmctl.host.base import Host
from llmctl.store.binaries import argv_with, find

TIMEOUT_S = 5.0
"""For each tool. Without nvidia-persistenced the driver takes a second or so per card to wake."""

# No gdb after a crash, as in units; and the log that says which devices share the host's memory
# and which backends did not come up. A build that does not know a level writes the log anyway.
_ASKING = {"GGML_NO_BACKTRACE": "1", "LLAMA_ARG_LOG_VERBOSITY": "5"}

_HIDING = (
    "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES",
    "GGML_VK_VISIBLE_DEVICES", "ONEAPI_DEVICE_SELECTOR",
)  # fmt: skip


class Survey(msgspec.Struct, frozen=True):
    """What there is to put a model on, at one moment, and what is odd about it.

    binary: whose names these are. ram: None when nobody says, as on a Mac.
    """

    binary: str
    gpus: tuple[Gpu, ...]
    ram: Ram | None
    warnings: tuple[str, ...] = ()


def survey(box: Box, *, binary: str | None = None, profile: Profile | None = None) -> Survey:
    """The devices that a profile's binary, or the one of that name, sees in its environment.

    ProfileError: there is no such binary, and config.yaml declares no device either.
    """
    config = box.store.config
    name = profile.binary if profile else binary or default_binary(config)
    env = profile.env if profile else {}
    warnings: list[str] = []
    found = _found(box, name, env, warnings)
    gpus, about = declare(found, config.devices)
    ram = declare_ram(_ram(box.host), config.devices)
    return Survey(name, gpus, ram, (*warnings, *about))


def default_binary(config: Config) -> str:
    """The build that a profile means which names none; else the first of config.yaml."""
    usual = Profile(name="", model="").binary
    return usual if usual in config.binaries else next(iter(config.binaries), usual)


def _found(box: Box, name: str, env: Mapping[str, str | int], warnings: list[str]) -> Sequence[Gpu]:
    try:
        binary, path = _binary(box, name)
    except ProfileError as error:
        if not has_totals(box.store.config.devices):
            raise
        warnings.append(error.message)
        return ()
    whole = {**binary.env, **env}
    listed = _listed(box.host, name, argv_with({**_ASKING, **whole}, path), warnings)
    cards = merged(_nvidia(box.host, warnings), _sysfs(box.host))
    cards = visible(cards, {key: str(value) for key, value in whole.items()})
    warnings.extend(_hidden_by_the_shell(box.host, whole))
    if listed is not None:
        warnings.extend(_unseen(name, listed, cards, whole))
        return enrich(listed, cards)
    guess = guessed(cards)
    if guess:
        names = ", ".join(gpu.name for gpu in guess)
        warnings.append(f"the names of the devices are guessed: {names}")
    return guess


def _binary(box: Box, name: str) -> tuple[Binary, str]:
    binary = box.store.config.binary(name)
    file = f"{box.store.config_dir}/config.yaml"
    if binary is None:
        known = ", ".join(sorted(box.store.config.binaries))
        raise ProfileError(
            f"{file}: binaries: there is no {name}; there is {known}",
            hint=f"Add it: binaries: {{{name}: /path/to/llama-server}}",
        )
    return binary, find(box.host, name, binary, file=file)


# Asking


def _listed(
    host: Host, name: str, program: Sequence[str], warnings: list[str]
) -> tuple[Listed, ...] | None:
    """What the binary lists; None, and a warning, when it does not answer."""
    shown = f"{program[-1]} --list-devices"
    text = _said(host, (*program, "--list-devices"), shown, warnings)
    if text is None:
        return None
    listed = parse_list_devices(text)
    if listed is None:
        last = (text.strip().splitlines() or ["it said nothing"])[-1]
        warnings.append(f"{shown} gave no list: {last}")
    warnings.extend(f"{name}: {line}" for line in parse_complaints(text))
    return listed


def _said(host: Host, argv: Sequence[str], shown: str, warnings: list[str]) -> str | None:
    """All that a tool wrote; None, and a warning that names it, when it does not end or start."""
    try:
        result = host.run(argv, timeout=TIMEOUT_S)
    except HostError as error:
        warnings.append(error.message.replace(argv[0], shown, 1).rstrip("."))
        return None
    return f"{result.stdout}\n{result.stderr}"


def _nvidia(host: Host, warnings: list[str]) -> tuple[Card, ...]:
    if host.which(SMI_ARGV[0]) is None:
        return ()
    text = _said(host, SMI_ARGV, SMI_ARGV[0], warnings)
    cards = () if text is None else parse_nvidia_smi(text)
    if text is not None and not cards:
        warnings.append(f"nvidia-smi: {smi_complaint(text)}")
    return cards


def _sysfs(host: Host) -> tuple[Card, ...]:
    """Cards of any maker with a driver in the kernel's DRM."""
    try:
        entries = [entry.name for entry in host.list(DRM)]
    except HostError:
        return ()
    return tuple(card for name in card_names(entries) if (card := _drm_card(host, entries, name)))


def _drm_card(host: Host, entries: Sequence[str], name: str) -> Card | None:
    device = f"{DRM}/{name}/device"
    uevent = _text(host, f"{device}/uevent")
    files = AMDGPU_FILES if "DRIVER=amdgpu" in uevent else ()
    memory = {file: _text(host, f"{device}/{file}") for file in files}
    statuses = [_text(host, f"{DRM}/{one}/status") for one in connectors(entries, name)]
    return sysfs_card(uevent, memory, statuses)


def _ram(host: Host) -> Ram | None:
    found = parse_meminfo(_text(host, "/proc/meminfo"))
    return Ram(*found) if found else None


def _text(host: Host, path: str) -> str:
    try:
        return host.read(path).decode(errors="replace")
    except (FileNotFoundError, HostError):
        return ""


# What is odd


def _hidden_by_the_shell(host: Host, env: Mapping[str, str | int]) -> Iterator[str]:
    """Units have the user manager's environment, not the shell's."""
    for name in _HIDING:
        if name in host.environ() and name not in env:
            yield (
                f"{name} is set in your shell, and units do not see it: write it to `env` of the "
                "binary in config.yaml, or unset it"
            )


def _unseen(
    name: str, listed: Sequence[Listed], cards: Sequence[Card], env: Mapping[str, str | int]
) -> Iterator[str]:
    """Cards that a binary should list, and does not: its backend is not built in or did not load.

    That of an APU beside real cards is left out on purpose by many builds.
    """
    if any(word in env for word in _HIDING):
        return
    seen = {card.pci for card in match_cards(listed, cards) if card}
    for card in cards:
        if card.total_bytes and card.pci not in seen and (card.vendor == "nvidia" or not listed):
            what = card.name or f"a card of {card.vendor}"
            yield f"{card.source} sees {what} at {card.pci}, but {name} does not list it"
