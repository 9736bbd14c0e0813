"""routing.py: names, aliases, and what is neither."""

from __future__ import annotations

import pytest
from support.wire import served

from llmctl.proxy.dialect import Trouble
from llmctl.proxy.routing import Rules, Served, Table, route, strip_upstream

CODER = served("coder")
GEMMA = Served(name="gemma", group="gpu", port=1, aliases=("writer", "coder"))
EMBED = Served(name="embed", group=None, port=2, aliases=("e",))
TABLE = Table.of((CODER, GEMMA, EMBED), {"gpu": "coder"})
STRICT = Rules("error")


def name(
    model: str | None = None,
    forced: str | None = None,
    rules: Rules | None = None,
    table: Table = TABLE,
) -> str | Trouble:
    found = route(table, model=model, forced=forced, rules=rules or Rules())
    return found.name if isinstance(found, Served) else found


@pytest.mark.parametrize(
    ("model", "wanted"),
    [("coder", "coder"), ("gemma", "gemma"), ("writer", "gemma"), ("e", "embed"), (None, "coder"),
     ("", "coder"), ("gpt-4o", "coder")],
)  # fmt: skip
def test_names(model: str | None, wanted: str) -> None:
    """A profile's own name is stronger than another's alias; an unknown one is the active model."""
    assert name(model) == wanted


def refused(found: str | Trouble) -> tuple[int, str]:
    assert isinstance(found, Trouble)
    return found.status, found.message


def test_unknown_names_can_be_errors() -> None:
    status, message = refused(name("gpt-4o", rules=STRICT))
    assert status == 404
    assert message == "There is no model 'gpt-4o'. There is coder, embed, gemma."
    assert name(None, rules=STRICT) == "coder"


def test_a_path_must_name_a_model_that_is_there() -> None:
    assert name("coder", forced="writer") == "gemma"
    assert refused(name(forced="nobody"))[0] == 404
    assert refused(name(forced=""))[0] == 404


def test_a_key_may_be_for_some_models_only() -> None:
    rules = Rules("active", frozenset({"gemma"}))
    assert name("writer", rules=rules) == "gemma"
    assert refused(name("coder", rules=rules))[0] == 403
    assert refused(name("gpt-4o", rules=rules))[0] == 403
    status, message = refused(name(forced="x", rules=rules))
    assert status == 404
    assert "coder" not in message, "names of others are not told"


def test_nothing_runs() -> None:
    status, message = refused(name(None, table=Table.of((CODER,), {})))
    assert status == 503
    assert "coder" in message
    assert "llmctl new" in refused(name("x", table=Table()))[1]


@pytest.mark.parametrize(
    ("path", "wanted"),
    [(b"/v1/models", (None, b"/v1/models")), (b"/upstream/coder/props", ("coder", b"/props")),
     (b"/upstream/coder", ("coder", b"/")), (b"/upstream/", ("", b"/")),
     (b"/upstream/a/upstream/b", ("a", b"/upstream/b")), (b"/upstream/\xe4/x", ("ä", b"/x"))],
)  # fmt: skip
def test_a_path_can_name_a_model(path: bytes, wanted: tuple[str | None, bytes]) -> None:
    assert strip_upstream(path) == wanted
