"""The text of a new profile: every key that matters with its value and why, the others as comments.

What is written parses to the Profile that was given, and so it does with any of the other keys
taken out of their comments.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from llmctl.core.profile import Profile
from llmctl.core.yaml_text import flow

FIRST = ("model", "binary", "group", "port")
PLANNED = ("ctx", "kv", "gpu_layers", "n_cpu_moe", "tensor_split")
_WORDS = frozenset({"on", "off"})
"""YAML 1.2 has them for words, llmctl reads YAML 1.2, and people write them so."""
_WIDEST = 24


class Notes(msgspec.Struct, frozen=True):
    """What is said beside the values. above: what the model is. plan: on what was planned, or why
    not. key: per key, why its value is what it is. below: what else there is to know.
    """

    above: Sequence[str] = ()
    plan: Sequence[str] = ()
    key: Mapping[str, str] = {}
    below: Sequence[str] = ()


def profile_text(profile: Profile, notes: Notes) -> str:
    """The file of a profile. ValueError: a path in it is no text."""
    values = msgspec.to_builtins(profile)
    values["sampling"] = {k: v for k, v in values["sampling"].items() if v is not None}
    written = [*FIRST, *PLANNED, *_others(profile, values)]
    written = [key for key in written if values[key] is not None]
    blocks = (
        _comments(notes.above),
        list(_lines(values, notes, [key for key in written if key in FIRST])),
        [*_comments(notes.plan), *_lines(values, notes, PLANNED)],
        list(_lines(values, notes, [key for key in written if key not in (*FIRST, *PLANNED)])),
        _comments(notes.below),
        [f"# The other keys, with their defaults. {_REFERENCE}", *_offered(written)],
    )
    return "\n".join("".join(f"{line}\n" for line in block) for block in blocks if block)


_REFERENCE = "`llmctl schema` and docs/reference/profile.md say more."


def _others(profile: Profile, values: Mapping[str, object]) -> Iterator[str]:
    """Further keys that are not as they are by default."""
    for field in msgspec.structs.fields(Profile):
        if field.name not in (*FIRST, *PLANNED, "name"):
            default = _default(field)
            is_set = getattr(profile, field.name) != default
            if is_set and values[field.name] not in ({}, []):
                yield field.name


def _comments(lines: Sequence[str]) -> list[str]:
    return [f"# {line}" for line in lines]


def _lines(values: Mapping[str, object], notes: Notes, keys: Sequence[str]) -> Iterator[str]:
    shown = {key: f"{key}: {flow(values[key], words=_WORDS)}" for key in keys}
    width = max((len(one) for one in shown.values() if len(one) <= _WIDEST), default=0)
    for key, text in shown.items():
        note = notes.key.get(key)
        if note and len(text) > _WIDEST:
            yield f"# {note}"
            yield text
        else:
            yield f"{text.ljust(width)}  # {note}" if note else text


def _offered(written: Sequence[str]) -> Iterator[str]:
    """The keys that were left out, ready to be taken out of their comment."""
    fields = [one for one in msgspec.structs.fields(Profile) if one.name not in (*written, "name")]
    shown = [(one, f"# {one.name}: {flow(_shown(one), words=_WORDS)}") for one in fields]
    width = max(len(text) for _, text in shown if len(text) <= _WIDEST + 2)
    for field, text in shown:
        yield f"{text.ljust(width)}  # {_meaning(field)}"


def _shown(field: msgspec.structs.FieldInfo) -> object:
    """The default; an example for what has none."""
    default = msgspec.to_builtins(_default(field))
    if isinstance(default, dict):
        default = {key: one for key, one in default.items() if one is not None}
    if default in (None, {}) and field.name != "env":
        examples = _note(field).examples or []
        return examples[0] if examples else default
    return default


def _default(field: msgspec.structs.FieldInfo) -> object:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return None if field.default is msgspec.NODEFAULT else field.default


def _meaning(field: msgspec.structs.FieldInfo) -> str:
    text = (_note(field).description or "").replace("`", "")
    return text.partition(". ")[0].partition("; ")[0].rstrip(".").replace("\n", " ")


def _note(field: msgspec.structs.FieldInfo) -> msgspec.Meta:
    notes = getattr(field.type, "__metadata__", ())
    return next((one for one in reversed(notes) if isinstance(one, msgspec.Meta)), msgspec.Meta())
