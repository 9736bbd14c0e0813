"""What a running process was started with, as far as its speed depends on it."""

from llmctl.core.bench_words import flags_of
from llmctl.engine.box import Box


def running_flags(box: Box, pid: int) -> dict[str, str]:
    """By name, whatever its profile says by now, and the size of its model's file."""
    words = [one.decode(errors="replace") for one in box.read_proc(pid, "cmdline").split(b"\0")]
    flags = flags_of(words)
    model = flags.get("model")
    entry = box.host.stat(model) if model else None
    return {**flags, "model_bytes": str(entry.size_bytes)} if entry else flags
