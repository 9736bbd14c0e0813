"""core/unit.py: quoting, ordering, and what a unit's text tells of itself."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.systemd_syntax import SyntaxRefusedError, assignment, exec_words, split, values

from llmctl.core.profile import Profile
from llmctl.core.unit import (
    ABSENT,
    Header,
    Owner,
    Placement,
    UnitFile,
    context,
    exec_start,
    process_of,
    quote,
    read_header,
    render_unit,
    slice_file,
    source_digest,
    url,
)
from llmctl.core.words import unit_name
from llmctl.store.data import template

TEMPLATE = template("llm.service")
NAMES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,8}", fullmatch=True)
WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
NASTY = st.text(alphabet="a \t\n\r\\\"'$%{}#;@=-é\x01\x7f~", max_size=12)


def rendered(name: str, argv: tuple[str, ...] = ("/b",), **place: object) -> UnitFile:
    where = Placement(**{"port": 12340, **place})  # type: ignore[arg-type]
    variables = context(Profile(name=name, model="a.gguf"), argv, where)
    return render_unit(unit_name(name), TEMPLATE, variables, version="1.2.3")


# Quoting


@given(WORDS | NASTY)
@settings(max_examples=400, deadline=None)
def test_a_quoted_word_is_one_word_to_systemd(word: str) -> None:
    assert [one.replace("%%", "%") for one in split(quote(word))] == [word]


@given(st.lists(WORDS | NASTY | st.just("--flag") | st.just(";"), max_size=8))
@settings(max_examples=400, deadline=None)
def test_systemd_executes_the_words_it_was_given(words: list[str]) -> None:
    argv = ["/opt/llama server/100%", *words]
    text = f"[Service]\nExecStart={exec_start(argv)}\nSlice=llm.slice\n"
    assert exec_words(values(text, "ExecStart")[0]) == argv
    assert values(text, "Slice") == ["llm.slice"]


@given(st.dictionaries(st.from_regex(r"[A-Z_]{1,5}", fullmatch=True), WORDS | NASTY, max_size=4))
@settings(max_examples=200, deadline=None)
def test_systemd_sets_the_environment_it_was_given(env: dict[str, str]) -> None:
    text = rendered("coder", environment=env).text
    found = dict(assignment(one) for one in values(text, "Environment"))
    assert {key: value for key, value in found.items() if key != "LLMCTL_PROCESS"} == env


@pytest.mark.parametrize("text", ["%n", "$HOME", '"open', "\\q", "a ; b"])
def test_the_reader_of_these_tests_refuses_what_systemd_would_change(text: str) -> None:
    with pytest.raises(SyntaxRefusedError):
        exec_words(f"/bin/x {text}")


@pytest.mark.parametrize("word", ["--ctx-size", "/opt/x.gguf", "a=b", "37,12", "-1"])
def test_a_plain_word_stays_readable(word: str) -> None:
    assert quote(word) == word


def test_a_flag_and_its_value_stay_on_one_line() -> None:
    text = exec_start(["/b", *itertools.chain(*((f"--flag{n}", f"value{n}") for n in range(20)))])
    assert all(f" --flag{n} value{n} " in f" {text} " for n in range(20))


def test_the_program_stands_on_a_line_of_its_own() -> None:
    assert exec_start(["/b", "--port", "1"]).split("\n")[0] == "/b \\"


def test_lines_are_not_wider_than_an_editor() -> None:
    text = exec_start(["/b", *(f"--flag{n}" for n in range(60))])
    assert max(len(line) for line in text.split("\n")) <= 100


# Mutual exclusion


def graph(names: list[str]) -> dict[str, str]:
    units = [unit_name(name) for name in names]
    return {
        unit_name(name): rendered(
            name, rivals=tuple(one for one in units if one != unit_name(name))
        ).text
        for name in names
    }


@given(st.sets(NAMES, min_size=1, max_size=6).flatmap(lambda names: st.permutations(list(names))))
@settings(max_examples=40, deadline=None)
def test_members_of_a_group_are_exclusive_and_totally_ordered(names: list[str]) -> None:
    units = graph(names)
    for unit, text in units.items():
        assert set(values(text, "Conflicts")) == set(units) - {unit}
    for one, other in itertools.combinations(sorted(units), 2):
        assert one in values(units[other], "After")
        assert one not in values(units[other], "Before")
        assert other in values(units[one], "Before")
        assert other not in values(units[one], "After")


def test_the_order_of_a_group_has_no_cycle() -> None:
    units = graph(["b", "a-b", "a", "a.b", "10", "9", "z_"])
    after = {unit: set(values(text, "After")) for unit, text in units.items()}
    for unit, text in units.items():
        for later in values(text, "Before"):
            after[later].add(unit)
    gone: set[str] = set()
    while ready := [unit for unit, needs in after.items() if needs <= gone and unit not in gone]:
        gone.update(ready)
    assert gone == set(units)


def test_foreign_units_conflict_and_are_waited_for() -> None:
    text = rendered("coder", foreign=("ollama.service",)).text
    assert values(text, "Conflicts") == ["ollama.service"]
    assert values(text, "After") == ["ollama.service"]
    assert values(text, "Before") == []


def test_a_resident_excludes_nobody() -> None:
    text = rendered("steward").text
    assert values(text, "Conflicts") == values(text, "After") == values(text, "Before") == []


# What a unit holds


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Slice", ["llm.slice"]),
        ("KillMode", ["mixed"]),
        ("TimeoutStopSec", ["30s"]),
        ("Restart", ["on-failure"]),
        ("StartLimitBurst", ["5"]),
        ("WantedBy", ["default.target"]),
        ("StandardOutput", []),
        ("Profile", ["coder"]),
        ("Group", ["gpu"]),
        ("Port", ["12340"]),
        ("Version", ["1.2.3"]),
    ],
)
def test_a_unit_says(key: str, value: list[str]) -> None:
    assert values(rendered("coder").text, key) == value


def test_output_goes_to_a_file_when_there_is_one() -> None:
    text = rendered("coder", log_file="/home/a b/100%/x.log").text
    assert values(text, "StandardOutput") == ["append:/home/a b/100%%/x.log"]


def process(name: str, argv: tuple[str, ...] = ("/b",), **place: object) -> str:
    words = values(rendered(name, argv, **place).text, "Environment")
    return dict(assignment(one) for one in words)["LLMCTL_PROCESS"]


def test_a_process_carries_the_digest_of_its_own_argv() -> None:
    assert process("coder") != process("coder", ("/b", "--verbose"))


def test_a_process_carries_the_digest_of_its_own_environment() -> None:
    assert process("coder") != process("coder", environment={"A": 1})


def test_an_installed_text_tells_which_process_it_starts() -> None:
    assert process_of(rendered("coder").text) == process("coder")


@pytest.mark.parametrize("text", [None, "", "[Service]\nExecStart=/theirs\n"])
def test_any_other_text_starts_no_process_that_is_known(text: str | None) -> None:
    assert process_of(text) is None


def test_a_new_rival_makes_no_other_process() -> None:
    assert process("coder") == process("coder", rivals=("llm-new.service",))


def test_a_server_listens_on_loopback_only() -> None:
    assert url(12340) == "http://127.0.0.1:12340"


def test_a_forgotten_variable_of_a_template_is_an_error() -> None:
    with pytest.raises(Exception, match="colour"):
        render_unit("x.service", "{{ colour }}", {}, version="1")


# Whose a unit is


def test_a_unit_that_is_not_there_is_absent() -> None:
    assert read_header(None) is ABSENT


def test_a_rendered_unit_is_ours() -> None:
    header = read_header(rendered("coder").text)
    assert (header.owner, header.group, header.port) == (Owner.OURS, "gpu", 12340)


@pytest.mark.parametrize("line", ["", "Port=\n", "Port=none\n"])
def test_a_port_that_a_unit_does_not_tell_is_unknown(line: str) -> None:
    text = rendered("coder").text.replace("Port=12340\n", line)
    assert read_header(text).port is None


def test_a_hand_made_unit_is_foreign() -> None:
    assert read_header("[Service]\nExecStart=/b\n") == Header(Owner.FOREIGN)


def test_a_hand_made_unit_that_mentions_us_in_a_comment_is_foreign() -> None:
    assert read_header("# like [X-Llmctl]\n[Service]\n").owner is Owner.FOREIGN


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_change_by_hand_is_seen(data: st.DataObject) -> None:
    text = rendered("coder", ("/b", "-c", "4096")).text
    place = data.draw(st.integers(0, text.index("[X-Llmctl]") - 2))
    sign = data.draw(st.sampled_from("aZ9 #\n").filter(lambda one: one != text[place]))
    assert read_header(text[:place] + sign + text[place + 1 :]).owner is Owner.EDITED


@pytest.mark.parametrize("more", ["\n", "[Service]\nNice=5\n", "# a note\n", " "])
def test_what_is_added_at_the_end_by_hand_is_seen(more: str) -> None:
    assert read_header(rendered("coder").text + more).owner is Owner.EDITED


def test_an_edited_unit_still_tells_what_it_was_made_from() -> None:
    text = rendered("coder").text
    edited = read_header(text.replace("RestartSec=5", "RestartSec=9"))
    assert (edited.owner, edited.source) == (Owner.EDITED, read_header(text).source)


def test_the_same_profile_renders_to_the_same_text() -> None:
    assert rendered("coder") == rendered("coder")


def test_another_template_gives_another_digest() -> None:
    variables = {"a": 1}
    assert source_digest("x", variables) != source_digest("y", variables)


def test_the_order_of_variables_does_not_matter() -> None:
    assert source_digest("x", {"a": 1, "b": 2}) == source_digest("x", {"b": 2, "a": 1})


def test_another_version_of_llmctl_makes_no_unit_stale() -> None:
    variables = context(Profile(name="c", model="a"), ("/b",), Placement(1))
    old, new = (render_unit("c", TEMPLATE, variables, version=one) for one in ("1", "2"))
    assert read_header(old.text).source == read_header(new.text).source


def test_the_slice_is_ours_too() -> None:
    unit = slice_file(template("llm.slice"), version="1")
    assert (unit.name, read_header(unit.text).owner) == ("llm.slice", Owner.OURS)
