"""A call begun in a thread while the caller goes on: systemd thinks while Python imports."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """`result` is what the call returns, or raises, as soon as it has."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._found: list[T] = []
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._found.append(self._call())
        except Exception as error:  # noqa: BLE001  # raised again where it can be handled
            self._error = error

    def result(self) -> T:
        """Wait for it."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._found[0]
