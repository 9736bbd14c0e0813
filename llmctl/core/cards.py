"""What llama-server, nvidia-smi, sysfs and /proc say of devices: their text -> facts.

The binary's own list has the names and the order that its flags mean, but no PCI id and no
display. nvidia-smi and sysfs have those, in an order of their own. core/devices.py joins them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec

MIB = 1 << 20
SMI_FIELDS = (
    "index,pci.bus_id,name,memory.total,memory.used,memory.free,display_active,temperature.gpu"
)
SMI_ARGV = ("nvidia-smi", f"--query-gpu={SMI_FIELDS}", "--format=csv,noheader,nounits")

DRM = "/sys/class/drm"
_VENDORS = {"10DE": "nvidia", "1002": "amd", "8086": "intel"}
"""PCI vendors, as `PCI_ID=` of a device's uevent spells them."""


def backend_of(name: str) -> str:
    """`CUDA0` -> CUDA, `RPC[10.0.0.2:50052]` -> RPC, `Metal` -> Metal."""
    return name.partition("[")[0].rstrip("0123456789")


class Listed(msgspec.Struct, frozen=True):
    """A device as `llama-server --list-devices` names it. Sizes are whole MiB there.

    integrated: the backend said that it shares the host's memory (Vulkan's `uma: 1`).
    """

    name: str
    description: str
    total_bytes: int
    free_bytes: int
    integrated: bool = False

    @property
    def backend(self) -> str:
        """What drives it: CUDA, ROCm, Vulkan, SYCL, MTL, RPC ..."""
        return backend_of(self.name)


class Card(msgspec.Struct, frozen=True):
    """A physical card, whoever told of it (`source`); None is what nobody could tell.

    pci: `0000:01:00.0`. shared_bytes: host memory that it may use beside its own (amdgpu's GTT).
    """

    pci: str
    vendor: str
    source: str
    name: str | None = None
    total_bytes: int | None = None
    free_bytes: int | None = None
    shared_bytes: int = 0
    display: bool = False
    temperature_c: int | None = None


# llama-server --list-devices

# common/arg.cpp, common_print_available_devices(): "  %s: %s (%zu MiB, %zu MiB free)\n"
_HEADER = "Available devices:"
_LISTED = re.compile(r"  (\S+): (.*) \((\d+) MiB, (\d+) MiB free\)")
# ggml-vulkan.cpp, ggml_vk_print_gpu_info(); newer builds write it at verbosity 5 only
_UMA = re.compile(r"ggml_vulkan: (\d+) = .* \| uma: 1 \|")


def parse_list_devices(text: str) -> tuple[Listed, ...] | None:
    """The devices in the order that --device, -ts and --main-gpu mean; None: it is no such list.

    `text` is all that the binary wrote, log included. Accelerators of the CPU (`BLAS`), which the
    list has too, hold no memory of their own and are left out.
    """
    before, header, after = text.partition(_HEADER)
    if not header:
        return None
    shared = {f"Vulkan{number}" for number in _UMA.findall(before + after)}
    found = (_LISTED.fullmatch(line.rstrip()) for line in after.splitlines())
    listed = (
        Listed(one[1], one[2], int(one[3]) * MIB, int(one[4]) * MIB, one[1] in shared)
        for one in found
        if one
    )
    return tuple(one for one in listed if one.total_bytes or one.name[-1].isdigit())


def parse_complaints(text: str) -> tuple[str, ...]:
    """What a binary says of a backend that did not come up: `failed to initialize CUDA: ...`."""
    found = re.findall(r"failed to (?:initialize|load)[^\n]+", text)
    return tuple(dict.fromkeys(line.strip() for line in found))


# nvidia-smi


def parse_nvidia_smi(text: str) -> tuple[Card, ...]:
    """The cards in `nvidia-smi`'s order, by PCI address, from the answer to SMI_ARGV.

    `[N/A]` and its like (a GB10 has no memory of its own, a data centre's card no display) is None.
    Lines that are no row, such as errors of a lost card, are passed over.
    """
    rows = ([cell.strip() for cell in line.split(",")] for line in text.splitlines())
    return tuple(_card(row) for row in rows if len(row) >= 8 and row[0].isdigit())


def _card(row: Sequence[str]) -> Card:
    _, bus, *name, total, used, free, display, temperature = row
    total_bytes, used_bytes, free_bytes = (_mib(cell) for cell in (total, used, free))
    if free_bytes is None and total_bytes is not None and used_bytes is not None:
        free_bytes = max(total_bytes - used_bytes, 0)
    return Card(
        pci=pci_address(bus), vendor="nvidia", source="nvidia-smi", name=", ".join(name),
        total_bytes=total_bytes, free_bytes=free_bytes, display=display == "Enabled",
        temperature_c=int(temperature) if temperature.isdigit() else None,
    )  # fmt: skip


def _mib(cell: str) -> int | None:
    number = cell.removesuffix(" MiB")
    return int(number) * MIB if number.isdigit() else None


def pci_address(text: str) -> str:
    """`00000000:0A:00.0` (nvidia-smi) -> `0000:0a:00.0` (sysfs, llama.cpp)."""
    domain, _, rest = text.lower().partition(":")
    return f"{domain[-4:].rjust(4, '0')}:{rest}"


def smi_complaint(text: str) -> str:
    """The first line that nvidia-smi wrote instead of an answer; it complains on stdout."""
    lines = (line.strip() for line in text.splitlines())
    return next((line.rstrip(".") for line in lines if line), "it said nothing")


# sysfs


def card_names(entries: Sequence[str]) -> tuple[str, ...]:
    """The cards in a listing of DRM, without their connectors: `card0`, `card10`."""
    found = [name for name in entries if re.fullmatch(r"card\d+", name)]
    return tuple(sorted(found, key=lambda name: int(name[4:])))


def connectors(entries: Sequence[str], card: str) -> tuple[str, ...]:
    """The connectors of a card in a listing of DRM: `card0-DP-1`, `card0-HDMI-A-1`."""
    return tuple(name for name in entries if name.startswith(f"{card}-"))


def parse_uevent(text: str) -> tuple[str, str, str] | None:
    """(PCI address, vendor, driver) of a DRM device; None: it is not on the PCI bus."""
    pairs = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    address, ids = pairs.get("PCI_SLOT_NAME"), pairs.get("PCI_ID", "")
    if not address:
        return None
    vendor = _VENDORS.get(ids.partition(":")[0].upper().rjust(4, "0"), "other")
    return pci_address(address), vendor, pairs.get("DRIVER", "")


AMDGPU_FILES = ("mem_info_vram_total", "mem_info_vram_used", "mem_info_gtt_total")
"""Bytes, beside a card's uevent (kernel docs: gpu/amdgpu/driver-misc)."""


def sysfs_card(uevent: str, memory: Mapping[str, str], statuses: Sequence[str]) -> Card | None:
    """A card from its uevent, its AMDGPU_FILES as far as there are any, and its connectors' status.

    A connector says `connected`, `disconnected` or `unknown`.
    """
    known = parse_uevent(uevent)
    if known is None:
        return None
    total, used, shared = (_bytes(memory.get(name, "")) for name in AMDGPU_FILES)
    free = max(total - used, 0) if total is not None and used is not None else None
    display = any(status.strip() == "connected" for status in statuses)
    return Card(known[0], known[1], "sysfs", None, total, free, shared or 0, display)


def _bytes(text: str) -> int | None:
    return int(text) if text.strip().isdigit() else None


def merged(told: Sequence[Card], seen: Sequence[Card]) -> tuple[Card, ...]:
    """Cards of nvidia-smi, with the displays that sysfs sees at them; then those of sysfs alone."""
    displays = {card.pci for card in seen if card.display}
    known = {card.pci for card in told}
    first = (msgspec.structs.replace(c, display=c.display or c.pci in displays) for c in told)
    return (*first, *(card for card in seen if card.pci not in known))


# /proc/meminfo


def parse_meminfo(text: str) -> tuple[int, int] | None:
    """(total, available) bytes of host memory; what caches hold counts as available."""
    found = {name: int(kib) << 10 for name, kib in _meminfo(text)}
    available = found.get("MemAvailable", found.get("MemFree"))
    total = found.get("MemTotal")
    return None if total is None or available is None else (total, available)


def _meminfo(text: str) -> Iterator[tuple[str, str]]:
    yield from re.findall(r"^(Mem\w+):\s+(\d+) kB$", text, re.MULTILINE)
