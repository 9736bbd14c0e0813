"""What is found on a box that nobody has configured."""

from __future__ import annotations

from support.fakes import HOME, FakeHost, Output

from llmctl.engine.finding import Models, builds, models


def program(host: FakeHost, path: str) -> None:
    host.install(path, lambda _: Output())


def test_builds_are_found_where_people_have_them() -> None:
    host = FakeHost()
    assert builds(host) == ()
    for tree in ("build", "build-cuda", "docs"):
        program(host, f"{HOME}/llama.cpp/{tree}/bin/llama-server")
    host.put(f"{HOME}/llama.cpp/build-old/bin/llama-cli", "")
    assert set(builds(host)) == {
        "~/llama.cpp/build/bin/llama-server", "~/llama.cpp/build-cuda/bin/llama-server",
    }  # fmt: skip
    program(host, "/usr/bin/llama-server")
    assert builds(host)[0] == "llama-server"


def test_the_directory_with_most_models_comes_first() -> None:
    host = FakeHost()
    assert models(host) == ()
    host.put("/srv/models/one.gguf", "x")
    host.put(f"{HOME}/.cache/llama.cpp/deep/one.gguf", "x")
    host.put(f"{HOME}/.cache/llama.cpp/two.gguf", "x")
    host.put(f"{HOME}/models/readme.md", "x")
    assert models(host) == (Models("~/.cache/llama.cpp", 2), Models("/srv/models", 1))
