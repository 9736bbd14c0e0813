"""A site on each system's shared box, as if nobody had been there before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.register_assert_rewrite("usermgr.scenarios")

from usermgr.site import BoxSite  # noqa: E402  # after the line above

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.boxes import Box


@pytest.fixture
def site(any_box: Box) -> Iterator[BoxSite]:
    made = BoxSite(any_box).set_up()
    yield made
    made.close()
