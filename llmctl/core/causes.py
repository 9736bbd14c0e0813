"""The server's last lines -> the cause in words, and what to do about it.

Patterns are of lines that real binaries wrote (llama.cpp 0.5.0-0.7.0, CUDA, Vulkan, ROCm, glibc,
systemd); the first that matches in the order below wins.
"""

import re
from collections.abc import Sequence

import msgspec

from llmctl.core.state import UnitStatus
from llmctl.core.verdict import CLD_EXITED
from llmctl.core.words import profile_of


class Cause(msgspec.Struct, frozen=True):
    """What happened, in a clause that follows "because", and what to try.

    is_port: it is about a port that could not be had; who holds it is another question. is_vague:
    there is no line that says more; the kernel may know.
    """

    what: str
    hint: str
    is_port: bool = False
    is_vague: bool = False


class _Known(msgspec.Struct, frozen=True):
    pattern: re.Pattern[str]
    what: str
    hint: str


def _known(pattern: str, what: str, hint: str) -> _Known:
    return _Known(re.compile(pattern, re.IGNORECASE), what, hint)


_LESS = "Lower ctx, quantize kv, or raise n_cpu_moe in the profile; see what else holds the GPU."
_PORT_TAKEN = "port {x} is taken"
_GPU_FAILED = "the GPU failed: {x}"
_SMALLER = "Use a smaller model or context, or lower n_cpu_moe."
_KNOWN = (
    _known(
        r"cudaMalloc failed: out of memory|CUDA error: out of memory|hipMalloc"
        r"|ErrorOutOfDeviceMemory|Device memory allocation .* failed"
        r"|(?:failed|unable) to allocate (?:CUDA|ROCm|Vulkan|SYCL)\w* buffer"
        r"|requested buffer size exceeds device memory",
        "the GPU ran out of memory",
        _LESS,
    ),
    _known(
        r"(?P<x>CUDA error: [^\n]+|[^\n]*ErrorDeviceLost[^\n]*|ROCm error: [^\n]+)",
        _GPU_FAILED,
        "See `journalctl --dmesg`; if it comes back, update driver and llama-server.",
    ),
    _known(
        r"failed to allocate (?:CPU|host|\w*) ?buffer|std::bad_alloc|unable to allocate|"
        r"mmap failed: Cannot allocate memory",
        "the box ran out of memory",
        _SMALLER,
    ),
    _known(
        r"error: invalid argument: (?P<x>\S+)",
        "this llama-server does not know the flag {x}",
        "Take it out of args (or update the binary), then `llmctl switch` again.",
    ),
    _known(
        r"(?P<x>the argument has been removed.*)",
        "this llama-server no longer has a flag it was given: {x}",
        "Change args in the profile.",
    ),
    _known(
        r"error while handling argument \"(?P<x>[^\"]+)\": *(?P<y>.*)",
        "llama-server refused the value of {x} ({y})",
        "Correct the profile, then `llmctl switch` again.",
    ),
    _known(
        r"couldn't bind (?:HTTP )?(?:server )?socket.*?port: *(?P<x>\d+)",
        _PORT_TAKEN,
        "Stop what holds it, or choose another port.",
    ),
    _known(
        r"failed to open GGUF file '(?P<x>[^']+)' \((?P<y>[^)]+)\)",
        "the model file {x} cannot be opened ({y})",
        "Correct model: in the profile, or put the file there.",
    ),
    _known(
        r"(?:failed to open|open\(\)).*(?P<y>No such file or directory|Permission denied)",
        "the model file cannot be opened ({y})",
        "Correct model: in the profile, or put the file there.",
    ),
    _known(
        r"invalid magic|failed to read (?:header|key|tensor|magic)|tensor '.*' data is not within"
        r"|corrupted or incomplete|gguf_init_from_\w+: failed|bad GGUF|unsupported GGUF",
        "the model file is corrupt or incomplete",
        "Compare its size and sha256 with the source, and fetch it again.",
    ),
    _known(
        r"unknown model architecture: '(?P<x>[^']+)'",
        "this llama-server is too old for the architecture {x}",
        "Use a newer binary for this profile.",
    ),
    _known(
        r"quantized V cache|V cache quantization requires flash_attn",
        "quantized V needs flash attention",
        "Say flash_attn: on, or kv: f16.",
    ),
    _known(
        r"no backends are loaded",
        "llama-server found no backend library beside it",
        "Reinstall the binary with its ggml libraries.",
    ),
    _known(
        r"error while loading shared libraries: (?P<x>[^:]+)",
        "the binary's library {x} is missing",
        "Install it, or set LD_LIBRARY_PATH under binaries: {{...: {{env: ...}}}} in config.yaml.",
    ),
    _known(
        r"supplied chat template is not supported|failed to parse chat template",
        "its chat template cannot be used",
        "Give another one: args: [--chat-template-file, FILE].",
    ),
    _known(r"failed to load model", "the model could not be loaded", "See the lines above."),
)


def name_cause(lines: Sequence[str], status: UnitStatus) -> Cause:
    """The most telling cause that the evidence shows."""
    text = "\n".join(lines)
    if status.result == "oom-kill":
        return Cause("the kernel killed it: the box ran out of memory", _SMALLER)
    for known in _KNOWN:
        if match := known.pattern.search(text):
            words = {name: (value or "").strip() for name, value in match.groupdict().items()}
            what, hint = known.what.format(**words), known.hint.format(**words)
            is_vague = known.what == _GPU_FAILED
            return Cause(what, hint, known.what == _PORT_TAKEN, is_vague)
    return msgspec.structs.replace(_from_systemd(status), is_vague=True)


# status.h of systemd: exit statuses its own child uses before execve(2) succeeds.
_EXEC_STATUS = {
    200: "its working directory is missing",
    203: "its binary cannot be executed",
    208: "its standard input cannot be opened",
    209: "its log file cannot be opened",
}
_SIGNALS = {4: "ILL (the binary needs another CPU)", 6: "ABRT", 7: "BUS", 9: "KILL", 11: "SEGV"}


def _from_systemd(status: UnitStatus) -> Cause:
    logs = f"See `llmctl logs {profile_of(status.unit) or 'NAME'}` for all it wrote."
    if status.exit_status in _EXEC_STATUS and status.exit_code == CLD_EXITED:
        return Cause(_EXEC_STATUS[status.exit_status], "Check binaries: in config.yaml.")
    if status.result == "start-limit-hit":
        return Cause("it crashed too often in a row (start limit hit)", logs)
    if status.result == "timeout":
        return Cause("it did not stop or start in time", logs)
    if status.exit_code in (2, 3):  # CLD_KILLED, CLD_DUMPED
        name = _SIGNALS.get(status.exit_status, str(status.exit_status))
        return Cause(f"it was ended by signal {name}", logs)
    return Cause(f"it ended with status {status.exit_status}", logs)
