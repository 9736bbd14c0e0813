"""What tests share: the rings, their fixtures, and what a failed test shows.

A *ring* is a part of reality that a test needs: `server` (a real llama-server), `usermgr` (a
real systemd user manager), `box` (whole machines), `ansible` (boxes that are provisioned). A ring
that this machine cannot provide skips its tests and says why; with `--require RING` it fails them,
so that CI cannot pass by skipping.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from kit import mkgguf
from kit.boxes import LAB, SYSTEMS, Box, Boxes, Lab
from kit.commands import KIT
from kit.managers import UserManager

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")  # a busy machine is no counterexample

RINGS = ("server", "usermgr", "box", "ansible")
RING_OF = {
    "llama_server": "server",
    "vulkan_server": "server",
    "user_manager": "usermgr",
    "lab": "box",
    "box": "box",
    "fresh_box": "box",
    "any_box": "box",
    "provisioner": "ansible",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require",
        action="append",
        default=[],
        metavar="RING[,RING...]",
        help=f"fail instead of skip where a ring cannot run: {', '.join(RINGS)}, all",
    )


def required_rings(config: pytest.Config) -> set[str]:
    named = {ring for option in config.getoption("--require") for ring in option.split(",")}
    if unknown := named - {*RINGS, "all"}:
        raise pytest.UsageError(f"--require: no such ring: {', '.join(sorted(unknown))}")
    return set(RINGS) if "all" in named else named


def pytest_configure(config: pytest.Config) -> None:
    required_rings(config)  # complain before anything runs


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever uses a ring's fixture bears its mark, so `-m "not box"` is always true."""
    for item in items:
        for name in getattr(item, "fixturenames", ()):
            if name in RING_OF:
                item.add_marker(RING_OF[name])


def without_ring(request: pytest.FixtureRequest, ring: str, reason: str) -> None:
    """This machine cannot provide `ring`: skip, or fail where it is required."""
    if ring in required_rings(request.config):
        pytest.fail(f"ring {ring} is required but cannot run: {reason}", pytrace=False)
    pytest.skip(f"ring {ring}: {reason}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly what was not proved."""
    reasons: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", ()):
        _, _, reason = report.longrepr if isinstance(report.longrepr, tuple) else ("", 0, "")
        if reason.startswith("Skipped: ring "):
            reasons[reason] = reasons.get(reason, 0) + 1
    if reasons:
        terminalreporter.section("RINGS THAT DID NOT RUN", sep="!", red=True)
    for reason, tests in reasons.items():
        terminalreporter.line(f"{tests} tests: {reason.removeprefix('Skipped: ')}", red=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call" and report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            if callable(evidence := getattr(value, "evidence", None)):
                report.sections.append((f"{name} at the time of failure", evidence()))
    return report


# -------------------------------------------------------------------------------- fixtures


@pytest.fixture(scope="session")
def llama_server(request: pytest.FixtureRequest) -> str:
    """The path of a real llama-server: $LLMCTL_TEST_LLAMA, else on PATH, else fetched."""
    return found_llama(request)


@pytest.fixture(scope="session")
def vulkan_server(request: pytest.FixtureRequest) -> str:
    """The path of a real llama-server that sees two GPUs made of software."""
    return found_llama(request, "--vulkan")


def found_llama(request: pytest.FixtureRequest, *options: str) -> str:
    found = subprocess.run([str(KIT / "find-llama.sh"), *options], capture_output=True, text=True)
    if found.returncode:
        without_ring(request, "server", found.stderr.strip())
    return found.stdout.strip()


@pytest.fixture(scope="session")
def tiny_models() -> Path:
    """A directory with the scripted models (see kit/mkgguf.py), each NAME.gguf.

    Not a temporary one: units with PrivateTmp= could not see it.
    """
    made_from = b"".join(source.read_bytes() for source in mkgguf.SOURCES)
    digest = hashlib.sha256(made_from).hexdigest()
    directory = cache_dir() / f"models-{digest[:12]}"
    if not directory.exists():
        cache_dir().mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=cache_dir()))
        made.chmod(0o755)
        mkgguf.write(made)
        with contextlib.suppress(OSError):  # another worker was faster
            made.rename(directory)
        shutil.rmtree(made, ignore_errors=True)
    return directory


def cache_dir() -> Path:
    """Where kit/common.sh keeps things, too."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llmctl-test"


@pytest.fixture(scope="session")
def fake_llama() -> Path:
    """A scripted stand-in for llama-server (see kit/fake_llama.py)."""
    return KIT / "fake_llama.py"


@pytest.fixture
def user_manager(request: pytest.FixtureRequest) -> Iterator[UserManager]:
    """A real systemd user manager of the test's own."""
    try:
        manager = UserManager()
    except (RuntimeError, OSError) as error:
        without_ring(request, "usermgr", str(error))
        raise
    with manager:
        yield manager


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest, tiny_models: Path) -> Iterator[Lab]:
    """A network of this session's own for boxes, which see the tiny models in /srv/models."""
    for command in ([LAB, "missing"], [str(KIT / "get-llama.sh")]):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.stdout or done.returncode:
            without_ring(request, "box", (done.stdout + done.stderr).strip())
    with Lab(binds={"/srv/models": tiny_models}) as made:
        yield made


@pytest.fixture(scope="session")
def box(lab: Lab) -> Boxes:
    """`box("trixie")`: that system's box, shared by this session's tests."""
    return Boxes(lab)


@pytest.fixture(params=SYSTEMS)
def any_box(request: pytest.FixtureRequest, box: Boxes) -> Box:
    """The shared box of each system in turn."""
    return box(request.param)


@pytest.fixture
def fresh_box(lab: Lab) -> Iterator[Box]:
    """A box of the test's own (trixie); for another system or journal, `lab.boot(...)`."""
    made = lab.boot("trixie")
    yield made
    made.remove()
