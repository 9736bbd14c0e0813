"""Reads an architecture's keys as llama.cpp does: one number for all layers, or one for each."""

from llmctl.core.gguf import Header, Value
from llmctl.errors import GgufError

MAX_LAYERS = 512
"""llama-hparams.h: LLAMA_MAX_LAYERS."""


class Hparams:
    """The keys of one model, without their prefix."""

    def __init__(self, header: Header) -> None:
        self._prefix = f"{header.architecture}."
        self._metadata: dict[str, Value] = header.metadata

    def has(self, key: str) -> bool:
        """Does the file say so at all?"""
        return self._prefix + key in self._metadata

    def number(self, key: str, default: int = 0) -> int:
        """A whole number; of a list, its first."""
        value = self._metadata.get(self._prefix + key, default)
        if isinstance(value, tuple):
            value = value[0] if value else default
        return self._int(key, value)

    def each(self, key: str, layers: int, default: int = 0) -> tuple[int, ...]:
        """One number per layer. A list that is too short is refused, as llama.cpp does
        (llama-model-loader.cpp: get_key_or_arr); layers that a model runs again have 0."""
        value = self._metadata.get(self._prefix + key, default)
        if not isinstance(value, tuple):
            return (self._int(key, value),) * layers
        if len(value) < self.layers():
            raise GgufError(
                f"{self._prefix}{key} has {len(value)} numbers for {self.layers()} layers."
            )
        if len(value) < layers:
            value = (*value, *(0,) * (layers - len(value)))
        return tuple(self._int(key, one) for one in value[:layers])

    def is_list(self, key: str) -> bool:
        """Does each layer have its own?"""
        return isinstance(self._metadata.get(self._prefix + key), tuple)

    def layers(self) -> int:
        """block_count: all layers, those that only predict further tokens included."""
        count = self.number("block_count")
        if not 0 < count <= MAX_LAYERS:
            raise GgufError(f"{self._prefix}block_count is {count}: a model has 1 to {MAX_LAYERS}.")
        return count

    def _int(self, key: str, value: Value) -> int:
        if not isinstance(value, (int, float)) or not 0 <= value < 1 << 40:
            raise GgufError(f"{self._prefix}{key} is {value!r}, not a number llama.cpp could use.")
        return int(value)
