"""The pools of connections to all instances, by instance."""

from llmctl.proxy.far import FarPool
from llmctl.proxy.pool import Pool
from llmctl.proxy.routing import Served


class Pools:
    """Of one box."""

    def __init__(self) -> None:
        self._pools: dict[tuple[str, int], Pool] = {}

    def of(self, served: Served) -> Pool:
        """The connections to an instance, as it listens now."""
        key = served.name, served.number
        found = self._pools.get(key)
        if found is None or not _is_to(found, served):
            if found is not None:
                found.close_idle()
            found = self._pools[key] = _pool(served)
        return found

    def close_idle(self, name: str, number: int | None = None) -> None:
        """Connections that nobody uses, to one instance of a model or to all of them: an open one
        is nothing that a server should wait for at its end."""
        for (model, instance), pool in self._pools.items():
            if model == name and number in (None, instance):
                pool.close_idle()


def _is_to(pool: Pool, served: Served) -> bool:
    """Does it lead to where that is now?"""
    if served.far is not None:
        return isinstance(pool, FarPool) and pool.far == served.far
    return (pool.port, pool.key) == (served.port, served.key)


def _pool(served: Served) -> Pool:
    if served.far is not None:
        return FarPool(served.far)
    return Pool(served.name, served.port, served.key)
