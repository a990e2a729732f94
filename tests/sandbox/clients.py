"""Clients in threads of their own, each of which asks again and again at a steady rate until it is left."""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self


class Clients(ABC):
    """So many clients, which ask as often as `rate` a second together; a slow answer makes a pause, and no burst."""

    def __init__(self, clients: int, rate: float, *, end_seconds: float) -> None:
        self._pause = clients / rate
        self._end_seconds = end_seconds
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n / rate,), daemon=True) for n in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(self._end_seconds)

    @abstractmethod
    def _client(self) -> AbstractContextManager[Callable[[], None]]:
        """What a client asks with; it is called by the client's thread, and keeps what came of it."""

    def _run(self, delay: float) -> None:
        with self._client() as ask:
            following = time.monotonic() + delay
            while not self._over.wait(max(0.0, following - time.monotonic())):
                ask()
                following = max(following + self._pause, time.monotonic())
