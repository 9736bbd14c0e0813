"""The GGUF reader: what it reads, whom it believes, and how it says no."""

import contextlib
import struct
from pathlib import Path

import gguf
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmctl.core import gguf_values
from llmctl.core.gguf import (
    BufferSource,
    Header,
    Tensor,
    join,
    read_buffer,
    read_header,
    read_parts,
)
from llmctl.core.gguf_vocab import (
    apart,
    first_difference,
    outline,
    read_tokens,
)
from llmctl.errors import GgufError, ProfileError


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def strings(items: list[str]) -> bytes:
    return struct.pack("<IIQ", 9, 8, len(items)) + b"".join(text(one) for one in items)


def tensor(name: str, shape: tuple[int, ...], type_: int, offset: int) -> bytes:
    dims = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + dims + struct.pack("<IQ", type_, offset)


def file(
    pairs: list[tuple[str, bytes]] | None = None,
    tensors: tuple[bytes, ...] = (),
    *,
    version: int = 3,
    data: int = 0,
) -> bytes:
    pairs = (
        [("general.architecture", struct.pack("<I", 8) + text("llama"))] if pairs is None else pairs
    )
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(pairs))
    head += b"".join(text(key) + value for key, value in pairs) + b"".join(tensors)
    return head + b"\0" * (-len(head) % 32 + data)


TWO = (tensor("a.weight", (256, 4), 12, 0), tensor("b.weight", (32, 2, 3), 8, 576))


class Pieces:
    """A remote file: hands out what it is asked for and counts the questions."""

    def __init__(self, data: bytes, at_most: int = 1 << 30) -> None:
        self.data, self.at_most, self.asked = data, at_most, 0

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, start: int, length: int) -> bytes:
        self.asked += 1
        return self.data[start : start + min(length, self.at_most)]


def both(data: bytes) -> Header:
    """The head read in place and in pieces: the same."""
    header = read_buffer(data)
    assert read_header(Pieces(data, at_most=77)) == header
    return header


class TestReading:
    def test_every_type_of_value(self) -> None:
        numbers = {
            "u8": (0, "B", 200), "i8": (1, "b", -3), "u16": (2, "H", 65535), "i16": (3, "h", -9),
            "u32": (4, "I", 1 << 31), "i32": (5, "i", -7), "f32": (6, "f", 0.5),
            "u64": (10, "Q", (1 << 64) - 1), "i64": (11, "q", -(1 << 62)), "f64": (12, "d", 1e300),
        }  # fmt: skip
        pairs = [
            (k, struct.pack(f"<I{code}", number, v)) for k, (number, code, v) in numbers.items()
        ]
        pairs += [("yes", b"\7\0\0\0\1"), ("word", struct.pack("<I", 8) + text("Zürich"))]
        pairs += [
            ("flags", struct.pack("<IIQ", 9, 7, 3) + b"\1\0\1"),
            ("words", strings(["a", ""])),
        ]
        header = both(file(pairs))
        assert header.metadata == {
            **{key: value for key, (_, _, value) in numbers.items()},
            "yes": True, "word": "Zürich", "flags": (True, False, True), "words": ("a", ""),
        }  # fmt: skip

    @pytest.mark.parametrize("version", [2, 3])
    def test_tensors_with_their_sizes(self, version: int) -> None:
        header = both(file(tensors=TWO, version=version, data=2000))
        assert header.version == version
        assert header.architecture == "llama"
        assert header.tensors == (
            Tensor("a.weight", "q4_K", (256, 4), 0, 576),
            Tensor("b.weight", "q8_0", (32, 2, 3), 576, 204),
        )
        assert header.data_start % 32 == 0
        assert (header.weights_bytes, header.missing_bytes) == (780, 0)

    def test_a_download_cut_short_says_how_much_is_missing(self) -> None:
        header = both(file(tensors=TWO, data=700))
        assert header.missing_bytes == 80

    def test_a_type_that_only_a_fork_has_takes_what_the_file_leaves_it(self) -> None:
        odd = (tensor("a", (64,), 141, 0), tensor("b", (32,), 0, 96), tensor("c", (7,), 142, 224))
        header = both(file(tensors=odd, data=300))
        assert [(one.type, one.nbytes) for one in header.tensors] == [
            ("type 141", 96), ("f32", 128), ("type 142", 76),
        ]  # fmt: skip

    def test_long_arrays_stay_in_the_file(self) -> None:
        scores = struct.pack("<IIQ", 9, 6, 5000) + b"\0" * 20000
        header = both(file([("scores", scores), ("after", b"\7\0\0\0\1")]))
        array = header.arrays["scores"]
        assert (array.type, array.count, array.end - array.start) == ("f32", 5000, 20000)
        assert header.metadata["after"] is True

    def test_arrays_in_arrays_are_passed_over(self) -> None:
        nested = struct.pack("<IIQ", 9, 9, 2) + strings(["a", "b"])[4:] * 2
        header = both(file([("nested", nested), ("after", b"\7\0\0\0\1")]))
        assert header.arrays["nested"].count == 2
        assert header.metadata == {"after": True}


class TestVocabularies:
    TOKENS = tuple(f"token{n}" for n in range(5000))

    def big(self, tokens: tuple[str, ...], *last: tuple[str, bytes]) -> bytes:
        pairs = [("tokenizer.ggml.tokens", strings(list(tokens))), *last]
        return file(pairs, TWO, data=2000)

    EOS = ("tokenizer.ggml.eos_token_id", struct.pack("<II", 4, 7))

    def test_jumping_and_walking_agree(self, monkeypatch: pytest.MonkeyPatch) -> None:
        data = self.big(self.TOKENS, self.EOS)
        jumped = both(data)
        monkeypatch.setattr(gguf_values, "_JUMPED", 1 << 60)
        assert read_buffer(data) == jumped
        assert jumped.metadata["tokenizer.ggml.eos_token_id"] == 7

    @pytest.mark.parametrize("lure", ["tokenizer.ggml.merges", "general.name", "tokenizer."])
    def test_a_token_that_looks_like_a_key_fools_nobody(self, lure: str) -> None:
        data = self.big((*self.TOKENS[:900], lure, *self.TOKENS[900:]), self.EOS)
        header = both(data)
        assert header.arrays["tokenizer.ggml.tokens"].count == 5001
        assert header.metadata["tokenizer.ggml.eos_token_id"] == 7
        assert lure.encode() in read_tokens(BufferSource(data), header)

    def test_a_vocabulary_may_be_the_last_key(self) -> None:
        assert len(both(self.big(self.TOKENS)).tensors) == 2

    def test_tokens_longer_than_a_byte_can_say(self) -> None:
        tokens = (*self.TOKENS, "x" * 300, "y" * 70000)
        data = self.big(tokens)
        assert [t.decode() for t in read_tokens(BufferSource(data), read_buffer(data))] == [*tokens]

    def test_a_remote_head_costs_few_questions(self) -> None:
        source = Pieces(self.big(tuple(f"token{n:09}" for n in range(200_000)), self.EOS))
        assert len(read_header(source).tensors) == 2
        assert source.asked <= 4

    def test_who_may_draft_for_whom(self) -> None:
        model = ("tokenizer.ggml.model", struct.pack("<I", 8) + text("gpt2"))
        target = self.big(self.TOKENS, model, self.EOS)
        shorter = self.big(self.TOKENS[:-100], model, self.EOS)
        much_shorter = self.big(self.TOKENS[:-200], model, self.EOS)
        other = (self.EOS[0], struct.pack("<II", 4, 8))
        adds = ("tokenizer.ggml.add_eos_token", struct.pack("<IB", 7, 1))
        eos = self.big(self.TOKENS, model, other)  # which the target never looks at
        adding = self.big(self.TOKENS, model, self.EOS, adds)
        vocabularies, tokens = [], []
        for data in (target, shorter, much_shorter, eos, adding):
            vocabulary = outline(read_buffer(data))
            assert vocabulary is not None
            vocabularies.append(vocabulary)
            tokens.append(read_tokens(BufferSource(data), read_buffer(data)))
        alike = [apart(one, vocabularies[0]) is None for one in vocabularies]
        assert alike == [True, True, False, True, False]
        assert all(first_difference(one, tokens[0]) is None for one in tokens)
        both = [msgspec.structs.replace(vocabularies[n], add_eos=True) for n in (0, 3)]
        assert apart(both[1], both[0]) is not None
        assert first_difference([b"a"] * 5 + [b"x"], [b"b"] * 5 + [b"x", b"y"]) is None
        assert first_difference([b"a"] * 6, [b"a"] * 5 + [b"x"]) == 5

    @given(st.lists(st.sampled_from([b"a", b"b"]), max_size=12), st.data())
    def test_the_first_difference_counts_from_token_5_as_far_as_both_reach(
        self, draft: list[bytes], data: st.DataObject
    ) -> None:
        target = data.draw(st.lists(st.sampled_from([b"a", b"b"]), max_size=12))
        pairs = list(zip(draft, target, strict=False))
        expected = next((n for n, (a, b) in enumerate(pairs) if n >= 5 and a != b), None)
        assert first_difference(draft, target) == expected

    def test_a_model_without_a_vocabulary(self) -> None:
        assert outline(read_buffer(file())) is None
        assert read_tokens(BufferSource(file()), read_buffer(file())) == []


def huge(number: int) -> bytes:
    return struct.pack("<Q", number)


class TestRefusals:
    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (b"", "the magic would end at 4"),
            (b"GGML" + b"\0" * 40, "is not GGUF"),
            (b"GGUF" + struct.pack(">I", 3) + b"\0" * 40, "big-endian"),
            (b"GGUF" + struct.pack("<I", 1) + b"\0" * 40, "version 1"),
            (b"GGUF" + struct.pack("<I", 4) + b"\0" * 40, "version 4"),
            (b"GGUF\3\0\0\0" + huge(1 << 40) + huge(0), "claims 1099511627776 tensors"),
            (b"GGUF\3\0\0\0" + huge(0) + huge(1 << 62), "keys, more than it can hold"),
            (file([("a" * 3, struct.pack("<I", 8) + huge(1 << 60))]), "the value of aaa would end"),
            (file([("a", struct.pack("<I", 13))]), "of type 13, which does not exist"),
            (file([("a", struct.pack("<IIQ", 9, 8, 1 << 50))]), "more than the file can hold"),
            (file([("a", struct.pack("<IIQ", 9, 77, 1))]), "type 77"),
            (file([("a", b"\7\0\0\0\1")] * 2), "a second a"),
            (file([("", b"\7\0\0\0\1")]), "key 0 is empty"),
            (file([("general.alignment", struct.pack("<II", 4, 48))]), "not a power of two"),
            (file(tensors=(TWO[0], TWO[0])), "a.weight is there twice"),
            (file(tensors=(tensor("x" * 64, (1,), 0, 0),)), "has 64 bytes"),
            (file(tensors=(tensor("x", (1,) * 5, 0, 0),)), "5 dimensions"),
            (file(tensors=(tensor("x", (1 << 40, 1 << 40), 0, 0),)), "impossible shape"),
            (file(tensors=(tensor("x", (100, 2), 12, 0),)), "rows of 100"),
            (file(tensors=(tensor("x", (1,), 0, 7),)), "lies at 7"),
            (file(tensors=(tensor("x", (1,), 0, 0)[:10],)), "would end"),
        ],
    )
    def test_what_is_wrong_and_where(self, data: bytes, words: str) -> None:
        with pytest.raises(GgufError, match=r"^At byte \d+: ") as caught:
            read_buffer(data)
        assert words in caught.value.message
        assert isinstance(caught.value, ProfileError)

    def test_a_file_that_shrinks_while_it_is_read(self) -> None:
        class Shrinking(Pieces):
            size = 1 << 20

        with pytest.raises(GgufError, match="shrank"):
            read_header(Shrinking(file(tensors=TWO)[:60]))

    def test_deep_nesting_is_refused_at_once(self) -> None:
        nested = struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 10_000
        with pytest.raises(GgufError, match="nests"):
            read_buffer(file([("a", nested)]))


SMALL = file(
    [
        ("general.architecture", struct.pack("<I", 8) + text("llama")),
        ("general.alignment", struct.pack("<II", 4, 32)),
        ("flags", struct.pack("<IIQ", 9, 7, 3) + b"\1\0\1"),
        ("tokenizer.ggml.tokens", strings(["a", "b"])),
    ],
    TWO,
)


class TestFuzz:
    def test_cut_at_every_byte(self) -> None:
        for end in range(len(SMALL)):
            try:
                header = read_buffer(SMALL[:end])
            except GgufError:
                continue
            assert header.missing_bytes > 0
            assert end >= header.data_start - 32

    def test_every_bit_flipped(self) -> None:
        for at in range(len(SMALL)):
            for bit in range(8):
                broken = bytearray(SMALL)
                broken[at] ^= 1 << bit
                with contextlib.suppress(GgufError):  # either is right, a traceback is not
                    read_buffer(broken)

    @given(st.binary(max_size=200), st.integers(0, len(SMALL)))
    @settings(max_examples=300, deadline=None)
    def test_noise_in_the_middle(self, noise: bytes, at: int) -> None:
        with contextlib.suppress(GgufError):
            read_header(Pieces(SMALL[:at] + noise + SMALL[at + len(noise) :]))

    @given(st.binary(max_size=400))
    @settings(max_examples=200, deadline=None)
    def test_noise_behind_the_magic(self, noise: bytes) -> None:
        with contextlib.suppress(GgufError):
            read_buffer(b"GGUF\3\0\0\0" + noise)


class TestSplitFiles:
    def part(self, no: int, count: int, tensors: tuple[bytes, ...], total: int = 2) -> Header:
        number = struct.Struct("<IH").pack
        pairs = [("split.no", number(2, no)), ("split.count", number(2, count))]
        pairs.append(("split.tensors.count", struct.pack("<Ii", 5, total)))
        return read_buffer(file(pairs, tensors, data=1000))

    def read(self, files: dict[str, Header], path: str = "m-00001-of-00002.gguf") -> Header:
        return read_parts(path, files.get)

    def parts(self) -> dict[str, Header]:
        other = tensor("b.weight", (32, 2, 3), 8, 0)
        return {
            "m-00001-of-00002.gguf": self.part(0, 2, (TWO[0],)),
            "m-00002-of-00002.gguf": self.part(1, 2, (other,)),
        }

    def test_the_parts_become_one_model(self) -> None:
        header = self.read(self.parts())
        assert [(one.name, one.part) for one in header.tensors] == [
            ("a.weight", 0),
            ("b.weight", 1),
        ]
        assert header.size == sum(part.size for part in self.parts().values())

    def test_a_file_that_is_whole(self) -> None:
        whole = read_buffer(file(tensors=TWO))
        assert read_parts("m.gguf", {"m.gguf": whole}.get) == whole

    def test_a_missing_part_is_refused(self) -> None:
        files = self.parts()
        del files["m-00002-of-00002.gguf"]
        with pytest.raises(GgufError, match=r"m-00002-of-00002\.gguf is missing"):
            self.read(files)
        with pytest.raises(GgufError, match="There is no file"):
            self.read(files, "other.gguf")

    def test_a_renamed_part_is_refused(self) -> None:
        with pytest.raises(GgufError, match="is not called"):
            read_parts("m.gguf", lambda _: self.parts()["m-00001-of-00002.gguf"])

    def test_naming_the_second_part_is_refused(self) -> None:
        with pytest.raises(GgufError, match="is not called"):
            self.read(self.parts(), "m-00002-of-00002.gguf")

    def test_parts_that_do_not_belong_together(self) -> None:
        first, second = self.parts().values()
        with pytest.raises(GgufError, match=r"split\.no says otherwise"):
            join([first, first], ["a", "b"])
        with pytest.raises(GgufError, match="hold 2 different tensors of 3"):
            join([self.part(0, 2, (TWO[0],), total=3), second], ["a", "b"])
        twice = self.part(1, 2, (TWO[0],))
        with pytest.raises(GgufError, match="hold 1 different tensors of 2"):
            join([first, twice], ["a", "b"])

    def test_a_count_that_is_no_number(self) -> None:
        odd = read_buffer(file([("split.count", struct.pack("<I", 8) + text("two"))]))
        with pytest.raises(GgufError, match="'two', not a number"):
            read_parts("m.gguf", lambda _: odd)


def test_the_gguf_package_agrees(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(3)
    writer.add_head_count_kv([1, 0, 2])
    writer.add_sliding_window_pattern([True, False, True])
    writer.add_rope_freq_base(1e6)
    writer.add_token_list([f"t{n}" for n in range(6000)])
    writer.add_token_scores([0.5] * 6000)
    writer.add_token_merges([f"t {n}" for n in range(7000)])
    writer.add_bos_token_id(3)
    for name, type_ in {"a": "F16", "b": "Q8_0", "c": "Q4_K", "d": "MXFP4", "e": "TQ2_0"}.items():
        quantized = gguf.GGMLQuantizationType[type_]
        block, size = gguf.GGML_QUANT_SIZES[quantized]
        raw = np.zeros((3, 512 // block * size), np.uint8)
        writer.add_tensor(f"{name}.weight", raw.view(np.float16) if type_ == "F16" else raw,
                          raw_dtype=quantized)  # fmt: skip
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    ours, theirs = both(path.read_bytes()), gguf.GGUFReader(path)
    assert [(t.name, t.shape, t.offset + ours.data_start, t.nbytes) for t in ours.tensors] == [
        (t.name, tuple(map(int, t.shape)), int(t.data_offset), int(t.n_bytes))
        for t in theirs.tensors
    ]
    assert [t.type.upper() for t in ours.tensors] == [
        t.tensor_type.name.upper() for t in theirs.tensors
    ]
    for key, value in ours.metadata.items():
        expected = theirs.fields[key].contents()
        assert (list(value) if isinstance(value, tuple) else value) == expected
    assert {k: a.count for k, a in ours.arrays.items()} == {
        k: len(theirs.fields[k].data) for k in ours.arrays
    }


def test_all_sizes_are_those_of_the_gguf_package() -> None:
    from llmctl.core.gguf_types import TYPES

    theirs = {int(number): sizes for number, sizes in gguf.GGML_QUANT_SIZES.items()}
    theirs[9] = (32, 36)  # q8_1: two half floats and 32 bytes in ggml-common.h; never in a file
    ours = {number: (one.block, one.size) for number, one in TYPES.items()}
    assert {number: ours.get(number) for number in theirs} == theirs
    names = {int(number): number.name.lower() for number in gguf.GGMLQuantizationType}
    assert all(one.name.lower() == names.get(number, one.name) for number, one in TYPES.items())
