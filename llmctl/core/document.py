"""YAML text -> frozen structs, with complaints a person can act on.

YAML is read as YAML 1.2's core schema reads it: only `true` and `false` are booleans (so
`flash_attn: on` is a word), `010` is text, and a key may stand only once. PyYAML's 1.1 rules would
turn `on` into True and `1:30` into 90, and keep the last of two equal keys.
"""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, get_args

import msgspec

from llmctl.errors import ProfileError

T = TypeVar("T", bound=msgspec.Struct)
Path = tuple[str | int, ...]


@functools.cache
def _loader() -> Any:
    """SafeLoader with YAML 1.2's scalars and no duplicate keys; made when first needed (10 ms)."""
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is ten times faster

    class Loader(base):  # type: ignore[misc]  # its base is chosen at run time
        yaml_implicit_resolvers: Mapping[str, object] = {}

        def construct_object(self, node: Any, deep: bool = False) -> Any:  # noqa: ARG002, FBT001, FBT002  # PyYAML's signature
            # Deep at once: an alias of what it is part of is refused then, and not built.
            return super().construct_object(node, deep=True)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:  # noqa: FBT001, FBT002  # PyYAML's signature
            _check_keys(node)
            return super().construct_mapping(node, deep=deep)

    for tag, pattern, first in _SCALARS:
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), list(first))
    Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^$"), [""])
    return Loader


_FLOAT = r"^-?(?:(?:0|[1-9][0-9]*)?\.[0-9]+(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)$"
_SCALARS = (
    ("bool", r"^(?:true|false)$", "tf"),
    ("null", r"^(?:null|~)$", "n~"),
    ("int", r"^-?(?:0|[1-9][0-9]*)$", "-0123456789"),
    ("float", _FLOAT, "-.0123456789"),
)


def _check_keys(node: Any) -> None:
    """Keys are text, and each stands once: PyYAML would keep the last of two."""
    import yaml

    seen: set[object] = set()
    for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.MarkedYAMLError(problem="a key must be a word", problem_mark=key.start_mark)
        if key.value in seen:
            raise yaml.MarkedYAMLError(
                problem=f"{key.value}: given twice", problem_mark=key.start_mark
            )
        seen.add(key.value)
        key.tag = "tag:yaml.org,2002:str"


def parse_yaml(text: str, *, file: str) -> Any:
    """The document in `text`, or a ProfileError that names `file` and the line."""
    import yaml

    try:
        return yaml.load(text, Loader=_loader())  # noqa: S506  # it is a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}" if mark else ""
        raise ProfileError(f"{file}{where}: {error.problem or 'not valid YAML'}") from None
    except (yaml.YAMLError, ValueError, LookupError, RecursionError) as error:
        raise ProfileError(f"{file}: not valid YAML: {error}".splitlines()[0]) from None


def show_value(value: object) -> str:
    """`value` as its writer wrote it, near enough, and short."""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    text = f'"{text}"' if isinstance(value, str) else text
    return text if len(text) <= 60 else text[:57] + "..."


def show_path(path: Path) -> str:
    """`("kv", "k")` -> `kv.k`; `("args", 2)` -> `args[2]`."""
    words = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return words.removeprefix(".")


def complain(path: Path, message: str, *, file: str) -> str:
    """One complaint: file, key path, what is wrong and what would be right."""
    return f"{file}: {show_path(path)}: {message}" if path else f"{file}: {message}"


def build(
    kind: type[T],
    raw: Any,
    *,
    file: str,
    fixed: Mapping[str, Any] | None = None,
    check: Callable[[T], Sequence[tuple[Path, str]]] | None = None,
) -> T:
    """The struct that the mapping `raw` describes; every complaint at once, or none.

    `fixed` are fields that the document may not give (a profile's name is its file's). `check`
    sees the finished struct and returns what types cannot say.
    """
    problems: list[tuple[Path, str]] = []
    value = _struct(kind, {} if raw is None else raw, problems, dict(fixed or {}))
    if value is not None and check is not None:
        problems.extend(check(value))
    if value is None or problems:
        raise ProfileError([complain(path, text, file=file) for path, text in problems])
    return value


def _struct(
    kind: type[T], raw: Any, problems: list[tuple[Path, str]], values: dict[str, Any]
) -> T | None:
    if not isinstance(raw, dict):
        problems.append(((), f"expected keys and values, got {show_value(raw)}"))
        return None
    fields = {name: field for name, field in fields_of(kind).items() if name not in values}
    for key, given in raw.items():
        field = fields.get(key)
        if field is None:
            problems.append(((str(key),), _unknown_key(str(key), list(fields))))
            continue
        values[key] = _value(field.type, given, (key,), problems)
    problems.extend(
        ((name,), f"missing; expected {words}" if (words := expects(field.type)) else "missing")
        for name, field in fields.items()
        if field.required and name not in raw
    )
    return None if problems else kind(**values)


@functools.cache  # resolving a struct's annotations costs a millisecond
def fields_of(kind: type[msgspec.Struct]) -> Mapping[str, msgspec.structs.FieldInfo]:
    """The fields of a struct by name."""
    return {field.name: field for field in msgspec.structs.fields(kind)}


def _value(kind: Any, given: Any, path: Path, problems: list[tuple[Path, str]]) -> Any:
    items = _item_type(kind)
    if items is not None and isinstance(given, dict):  # msgspec would not say which item
        return {key: _value(items, one, (*path, key), problems) for key, one in given.items()}
    if isinstance(given, dict) and (plain := _struct_type(kind)) is not None:
        inner: list[tuple[Path, str]] = []
        value = _struct(plain, given, inner, {})
        problems.extend(((*path, *where), text) for where, text in inner)
        return value
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        message, _, tail = str(error).partition(" - at `")
        steps = _steps(tail)
        wanted = _wanted(kind, steps)
        found = show_value(_dig(given, steps))
        problems.append(_translate(message, (*path, *steps), wanted, found))
        return None


def _wanted(kind: Any, steps: Path) -> str:
    """What was expected where `steps` lead to within a value of this type: a key of a section."""
    for step in steps:
        sections = [one for one in _alternatives(kind) if issubclass(one, msgspec.Struct)]
        field = fields_of(sections[0]).get(str(step)) if sections else None
        if field is None:
            return ""
        kind = field.type
    return expects(kind)


def _alternatives(kind: Any) -> list[type]:
    """The classes that a value of this type may be of."""
    plain = kind.__origin__ if hasattr(kind, "__metadata__") else kind
    return [one for one in (get_args(plain) or (plain,)) if isinstance(one, type)]


def _item_type(kind: Any) -> Any:
    """What the values of a dict are; None for any other type."""
    plain = kind.__origin__ if hasattr(kind, "__metadata__") else kind
    return plain.__args__[1] if getattr(plain, "__origin__", None) is dict else None


def _struct_type(kind: Any) -> type[msgspec.Struct] | None:
    """A section: msgspec would stop at its first fault, and does not know the words for it."""
    plain = kind.__origin__ if hasattr(kind, "__metadata__") else kind
    return plain if isinstance(plain, type) and issubclass(plain, msgspec.Struct) else None


def _translate(message: str, path: Path, wanted: str, found: str) -> tuple[Path, str]:
    """msgspec's words -> ours. Its messages: msgspec/_core.c, `ms_validation_error` and friends."""
    key = re.search(r"(unknown|missing required) field `([^`]+)`", message)
    if key:
        return (*path, key[2]), "unknown key" if key[1] == "unknown" else "missing"
    words = re.search(r"Expected `([^`]+)`(?: (of length )?([<>]=?) (\S+))?", message)
    if not wanted:
        wanted = _in_words(words[1]) + _bound(*words.groups()[1:]) if words else message.lower()
    return path, f"expected {wanted}, got {found}"


def _bound(length: str | None, sign: str | None, number: str | None) -> str:
    if sign is None:
        return ""
    of = "length " if length else ""
    return f" ({of}at {'least' if sign[0] == '>' else 'most'} {number})"


def _in_words(types: str) -> str:
    names = {"int": "a whole number", "str": "text", "bool": "true or false", "float": "a number"}
    names |= {"array": "a list", "object": "keys and values", "null": "nothing"}
    return " or ".join(names.get(one, one) for one in types.split(" | "))


def expects(kind: Any) -> str:
    """What a value of this annotated type is, in a person's words (the `title` of its Meta)."""
    noted = (kind, *get_args(kind))  # of `X | UnsetType`, X has the notes
    marks = [note for one in noted for note in getattr(one, "__metadata__", ())]
    notes = [note for note in marks if isinstance(note, msgspec.Meta)]
    return next((note.title for note in notes if note.title), "")


def _steps(tail: str) -> Path:
    """`$.a[0]` of a msgspec message -> ("a", 0). `[...]` stands for some key: the path ends."""
    found = re.findall(r"\.([^.\[`]+)|\[(\d+)\]", tail.split("[...]")[0])
    return tuple(name or int(index) for name, index in found)


def _dig(value: Any, steps: Path) -> Any:
    for step in steps:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return value
    return value


def _unknown_key(key: str, known: Sequence[str]) -> str:
    import difflib  # only complaints need it, and it costs 2 ms

    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    if near:
        return f"unknown key; did you mean {near[0]}?"
    return f"unknown key; there is {', '.join(known)}"
