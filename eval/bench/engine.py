"""`minions bench engine`: the same jobs by our engine, by `Llama` and by llama-server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import harmonic_mean
from typing import Any, Final

from eval.bench.competitors import (
    in_chunk_order,
    in_job_order,
    prefill_rate,
    run_llama_class,
    run_minions,
)
from eval.bench.measure import Measured, Surroundings, in_own_process
from eval.bench.server import ServerWay, run_server
from eval.bench.workloads import WORKLOADS, Workload, prompts_for

OURS: Final = "minions"
ONE_BY_ONE: Final = "Llama, job order"
PREFIX_CACHE: Final = "Llama, chunk order"
SERVERS: Final = tuple(
    ServerWay(n_slots=n_slots, by_chunk=by_chunk)
    for by_chunk in (False, True)
    for n_slots in (4, 8, 16)
)
COMPETITORS: Final = (ONE_BY_ONE, PREFIX_CACHE, *(way.name for way in SERVERS))


@dataclass(frozen=True, kw_only=True, slots=True)
class Roofline:
    """The least time there is: every unique prompt token and every generated token at llama.cpp's
    own prefill rate."""

    tokens: int
    wall_s: float
    cpu_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """One workload, by all."""

    workload: Workload
    engines: Mapping[str, Measured]
    roofline: Roofline

    def ratio(self, name: str) -> tuple[float, float] | None:
        """How many times as long as ours a competitor took: wall time, CPU time."""
        if name not in self.engines:
            return None
        other, ours = self.engines[name], self.engines[OURS]
        return other.wall_s / ours.wall_s, other.cpu_s / ours.cpu_s

    @property
    def best_server(self) -> str | None:
        """The server run that took the least CPU time."""
        names = [way.name for way in SERVERS if way.name in self.engines]
        return min(names, key=lambda name: self.engines[name].cpu_s, default=None)

    def as_json(self) -> dict[str, Any]:
        """For other programs. `ratio_vs_...` is the lower of the ratios of wall and CPU time, both
        of which are in `ratios`; None where that competitor was not run."""
        ours = self.engines[OURS]
        best = self.best_server
        ratios = {name: self.ratio(name) for name in self.engines if name != OURS}
        return {
            "engines": {name: asdict(measured) for name, measured in self.engines.items()},
            "roofline": asdict(self.roofline),
            "share_of_roofline": {
                "wall": self.roofline.wall_s / ours.wall_s,
                "cpu": self.roofline.cpu_s / ours.cpu_s,
            },
            "ratio_vs_llama_cpp_python": _lower(self.ratio(ONE_BY_ONE)),
            "ratio_vs_best_server": _lower(self.ratio(best)) if best else None,
            "best_server": best,
            "ratios": {
                name: {"wall": ratio[0], "cpu": ratio[1]} for name, ratio in ratios.items() if ratio
            },
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What is to be compared."""

    gguf: Path
    n_threads: int
    workloads: Sequence[str] = tuple(WORKLOADS)
    against: Sequence[str] = COMPETITORS
    """Whom to run beside our engine, servers only where there is a binary."""
    server_binary: Path | None = None
    n_rounds: int = 1
    """Each competitor's best round counts; rounds take turns, so that noise hits all alike."""


def compare(asked: Asked, on_result: Callable[[str, str, Measured], None]) -> list[Comparison]:
    """Run everything, each competitor in a process of its own. `on_result` hears of each round."""
    return [_compare_one(asked, WORKLOADS[name], on_result) for name in asked.workloads]


def to_json(comparisons: Sequence[Comparison], asked: Asked) -> dict[str, Any]:
    """The whole run."""
    return {
        "gguf": str(asked.gguf),
        "surroundings": asdict(Surroundings(n_threads=asked.n_threads)),
        "workload": {each.workload.name: each.as_json() for each in comparisons},
    }


def _compare_one(
    asked: Asked,
    workload: Workload,
    on_result: Callable[[str, str, Measured], None],
) -> Comparison:
    best: dict[str, Measured] = {}
    rates = (0.0, 0.0)

    def is_best(name: str, measured: Measured) -> bool:
        on_result(workload.name, name, measured)
        if name in best and measured.cpu_s >= best[name].cpu_s:
            return False
        best[name] = measured
        return True

    for _ in range(asked.n_rounds):
        ours, found = _ours_between_rates(asked, workload)
        if is_best(OURS, ours):
            rates = found
        for name, measured in _others(asked, workload):
            is_best(name, measured)
    n_unique = in_own_process(_unique_tokens, asked.gguf, workload)
    return Comparison(
        workload=workload,
        engines=best,
        roofline=roofline(n_unique + best[OURS].output_tokens, rates),
    )


def roofline(tokens: int, rates: tuple[float, float]) -> Roofline:
    """From tokens per second of wall and of CPU time."""
    wall, cpu = rates
    return Roofline(tokens=tokens, wall_s=tokens / wall, cpu_s=tokens / cpu)


def _ours_between_rates(asked: Asked, workload: Workload) -> tuple[Measured, tuple[float, float]]:
    """Our run, and llama.cpp's prefill rate before and after it: whatever slows the machine for a
    minute slows both."""
    before = in_own_process(prefill_rate, asked.gguf, asked.n_threads)
    ours = in_own_process(run_minions, asked.gguf, workload, asked.n_threads)
    after = in_own_process(prefill_rate, asked.gguf, asked.n_threads)
    return ours, (harmonic_mean((before[0], after[0])), harmonic_mean((before[1], after[1])))


def _others(asked: Asked, workload: Workload) -> Iterator[tuple[str, Measured]]:
    work = (asked.gguf, workload, asked.n_threads)
    for name, order in ((ONE_BY_ONE, in_job_order), (PREFIX_CACHE, in_chunk_order)):
        if name in asked.against:
            yield name, in_own_process(run_llama_class, *work, order)
    if asked.server_binary is None:
        return
    for way in SERVERS:
        if way.name in asked.against:
            yield way.name, run_server(asked.server_binary, *work, way)


def _unique_tokens(gguf: Path, workload: Workload) -> int:
    return prompts_for(workload, gguf).unique_tokens


def _lower(ratio: tuple[float, float] | None) -> float | None:
    return min(ratio) if ratio else None
