"""Contestants in turns, so that what disturbs the machine disturbs all alike."""

import statistics
import time
from dataclasses import dataclass, field
from typing import Callable, Protocol

SAMPLE, SLICE = 20e-3, 1e-3  # seconds


class Contestant(Protocol):
    description: str

    def run(self, calls: int) -> None: ...

    def close(self) -> None: ...


@dataclass
class Row:
    """A contestant and its times. `rival` is the row of libqvit's that it is compared with."""

    name: str
    contestant: Contestant
    rival: "Row | None" = None
    work: str = ""
    error: float = 0
    overhead: "Row | None" = None  # what its calls cost without any work
    calls: int = 0
    fastest: float = float("inf")
    means: list[float] = field(default_factory=list)

    def least(self) -> float:
        return self.fastest - (self.overhead.fastest if self.overhead else 0)

    def median(self) -> float:
        own = statistics.median(self.means)
        return own - (statistics.median(self.overhead.means) if self.overhead else 0)

    def ratio(self) -> float:
        """Times as long as the rival."""
        return self.least() / self.rival.least() if self.rival else 1.0

    def ratio_of_medians(self) -> float:
        return self.median() / self.rival.median() if self.rival else 1.0


def clock_of(threads: int) -> Callable[[], float]:
    """
    One thread's time on a processor, which leaves out what other programs take; of several threads only
    the clock on the wall says when the last one was done.
    """
    return time.thread_time if threads == 1 else time.perf_counter


def _slice(row: Row, clock: Callable[[], float]) -> float:
    start = clock()
    row.contestant.run(row.calls)
    return clock() - start


def _find_calls(row: Row, clock: Callable[[], float]) -> None:
    row.calls = 1
    while _slice(row, clock) < SLICE:
        row.calls *= 2


def _sample(row: Row, clock: Callable[[], float]) -> None:
    """At least 20 ms of calls, after one that warms up, in slices of at least 1 ms."""
    row.contestant.run(1)
    if not row.calls:
        _find_calls(row, clock)
    total, slices = 0.0, 0
    while total < SAMPLE:
        took = _slice(row, clock)
        row.fastest = min(row.fastest, took / row.calls)
        total += took
        slices += 1
    row.means.append(total / (slices * row.calls))


def measure(rows: list[Row], rounds: int, threads: int) -> None:
    """Threads of the one before, which spin for a while where they have no work, get time to sleep."""
    clock = clock_of(threads)
    for _ in range(rounds):
        for row in rows:
            if threads > 1:
                time.sleep(0.02)
            _sample(row, clock)
