"""What is done or watched in a thread beside a load."""

import threading
from abc import ABC, abstractmethod
from typing import Self


class Aside(ABC):
    """Works in a thread of its own for as long as the block lasts.

    The end of the block sets `is_over`, waits for the thread, and raises what it failed with, unless the block itself failed.
    """

    def __init__(self) -> None:
        self.is_over = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.is_over.set()
        self._thread.join()
        if self._failure is not None and exception[0] is None:
            raise self._failure

    @abstractmethod
    def work(self) -> None:
        """Do it, until `is_over` is set or all is done."""

    def _run(self) -> None:
        try:
            self.work()
        except Exception as failure:
            self._failure = failure
