"""The tensor types of GGUF files: how many elements make a block, how many bytes a block has.

From `GGML_QUANT_SIZES` of gguf-py and `type_traits` of ggml.c, llama.cpp b11434. Types that only
forks have (ik_llama.cpp, TurboQuant) are not here: their sizes come from the file's own offsets.
"""

import msgspec


class TensorType(msgspec.Struct, frozen=True):
    """`block` elements of a row take `size` bytes."""

    name: str
    block: int
    size: int

    @property
    def is_quantized(self) -> bool:
        """True for types whose rows are made of blocks (ggml.c: `is_quantized`)."""
        return self.block > 1

    def row_bytes(self, elements: int) -> int:
        """Bytes of a row of that many elements (ggml.c: ggml_row_size)."""
        return self.size * elements // self.block


_TABLE = """
0 f32 1 4|1 f16 1 2|2 q4_0 32 18|3 q4_1 32 20|6 q5_0 32 22|7 q5_1 32 24|8 q8_0 32 34|9 q8_1 32 36
10 q2_K 256 84|11 q3_K 256 110|12 q4_K 256 144|13 q5_K 256 176|14 q6_K 256 210|15 q8_K 256 292
16 iq2_xxs 256 66|17 iq2_xs 256 74|18 iq3_xxs 256 98|19 iq1_s 256 50|20 iq4_nl 32 18
21 iq3_s 256 110|22 iq2_s 256 82|23 iq4_xs 256 136|24 i8 1 1|25 i16 1 2|26 i32 1 4|27 i64 1 8
28 f64 1 8|29 iq1_m 256 56|30 bf16 1 2|34 tq1_0 256 54|35 tq2_0 256 66|39 mxfp4 32 17
40 nvfp4 64 36|41 q1_0 128 18|42 q2_0 64 18
"""

TYPES: dict[int, TensorType] = {
    int(number): TensorType(name, int(block), int(size))
    for number, name, block, size in (
        entry.split() for entry in _TABLE.strip().replace("\n", "|").split("|")
    )
}
BY_NAME: dict[str, TensorType] = {one.name: one for one in TYPES.values()}
