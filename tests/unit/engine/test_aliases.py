"""engine/aliases.py: what aliases need to know of a box."""

from __future__ import annotations

from support.fakes import Output
from support.world import World

from llmctl.engine.aliases import look_at
from llmctl.store.known_boxes import Known


def test_a_box_is_its_profiles_its_llmctl_and_its_url() -> None:
    world = World()
    world.profile("coder")
    world.config("proxy: {listen: ['10.0.0.9:1234'], allow_keyless: true}\n")
    world.host.install("/usr/bin/llmctl", lambda _: Output())
    known, wrong = look_at(world.box, address="big")
    assert known == Known(("coder",), "/usr/bin/llmctl", "http://10.0.0.9:1234/v1")
    assert wrong is None


def test_a_url_that_leads_nowhere_from_elsewhere_is_said() -> None:
    known, wrong = look_at(World().box, address="big")
    assert known == Known((), None, "http://big:1234/v1")
    assert wrong
    assert "http://big:1234/v1 will not answer" in wrong
    assert look_at(World().box, address=None)[1] is None


def test_a_proxy_that_may_not_listen_there_is_said() -> None:
    world = World()
    world.config("proxy: {listen: ['10.0.0.9:1234']}\n")
    known, wrong = look_at(world.box, address="big")
    assert known.url == "http://big:1234/v1"
    assert wrong
    assert "there are no API keys" in wrong
