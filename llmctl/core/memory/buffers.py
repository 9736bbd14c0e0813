"""What a compute buffer is asked of, and what is said of it."""

import msgspec

_SMALL_STEPS = 4 << 20
"""Bytes: the forms were off by 3.4 MiB at most where a whole buffer takes 40 or less."""


class Load(msgspec.Struct, frozen=True):
    """What one device has to work on. lent: the layers whose weights the host holds, which are all
    worked on by the first of the devices (ggml-backend.cpp: op_offload). dense: on no experts."""

    first: bool
    only_output: bool = False
    experts_lent: tuple[int, ...] = ()
    layers_lent: tuple[int, ...] = ()
    dense: bool = False


class Buffer(msgspec.Struct, frozen=True):
    """Bytes, and how far off they may be: `error` is a share of them, `more` are bytes besides."""

    nbytes: int
    error: float
    more: int = 0

    @property
    def error_bytes(self) -> int:
        """How many bytes it may be off, either way; steps that only count in small models are in
        no form."""
        return max(int(self.nbytes * self.error) + self.more, _SMALL_STEPS) if self.nbytes else 0
