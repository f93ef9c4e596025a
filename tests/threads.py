"""Threads for the tests that need several things at once."""

import threading
from collections.abc import Callable
from typing import Any


def at_once(*jobs: Callable[[], Any], timeout: float = 120) -> list[Any]:
    """Run each job in a thread of its own, all starting together, and return what they returned, in order.

    Raises what the first of the failed jobs raised; fails if one has not ended ``timeout`` seconds after the wait
    for it began.
    """
    results, start = [None] * len(jobs), threading.Barrier(len(jobs))

    def work(index: int) -> None:
        start.wait()
        try:
            results[index] = jobs[index]()
        except BaseException as error:
            results[index] = error

    threads = [threading.Thread(target=work, args=(index,), daemon=True) for index in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=timeout)
    assert not any(thread.is_alive() for thread in threads), "threads wait for each other"
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results
