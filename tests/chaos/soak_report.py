"""What a soak test has seen, and what is wrong with it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.measuring import percentile
from tests.chaos.load import Outcome
from tests.chaos.memory import Trend

# Searches that were under way in these seconds after a kill may fail: the part comes back and the others reconnect.
KILL_SECONDS = 15.0


@dataclass(frozen=True)
class Kill:
    """What was killed, and when."""

    part: str
    at: float

    def may_fail(self, outcome: Outcome) -> bool:
        """Whether a search was under way in the seconds after it."""
        return outcome.began < self.at + KILL_SECONDS and outcome.ended > self.at

    def as_json(self, outcomes: Sequence[Outcome]) -> dict[str, Any]:
        """What it did to the searches."""
        failed = [outcome for outcome in outcomes if outcome.error and self.may_fail(outcome)]
        last = max((outcome.began for outcome in failed), default=self.at)
        reasons = Counter(_reason(outcome) for outcome in failed)
        return {
            "part": self.part,
            "failed": len(failed),
            "last_failure_began_after_s": round(max(0.0, last - self.at), 1),
            "reasons": dict(reasons.most_common(3)),
        }


@dataclass
class Report:
    """What came out."""

    minutes: float
    photos: int
    capacity: float = 0.0
    rate: float = 0.0
    kills: list[Kill] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    left_out: int = 0
    jobs: int = 0
    trends: list[Trend] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def is_excused(self, outcome: Outcome) -> bool:
        """Whether a search may fail."""
        return any(kill.may_fail(outcome) for kill in self.kills)

    def judge(self) -> None:
        """Adds what is wrong with the searches and the memory to the problems."""
        failed = [outcome for outcome in self.outcomes if outcome.error and not self.is_excused(outcome)]
        if failed:
            self.problems.append(f"{len(failed)} searches failed apart from the kills, one with: {failed[0].error}")
        for trend in self.trends:
            if trend.is_flat is False:
                self.problems.append(f"{trend.role} ({trend.pid}) grows by {trend.slope_mb_per_hour:.1f} MB/h")

    def _answered_by_tenth(self) -> list[float]:
        """How many searches a second were answered in each tenth of the time: whether the system gets slower shows."""
        ends = sorted(outcome.ended for outcome in self.outcomes if not outcome.error)
        if len(ends) < 2 or ends[0] == ends[-1]:
            return []
        counts, edges = np.histogram(ends, 10)
        return [round(float(rate), 1) for rate in counts / np.diff(edges)]

    def as_json(self) -> dict[str, Any]:
        """All figures."""
        times = [outcome.ended - outcome.began for outcome in self.outcomes if not outcome.error]
        failed = [outcome for outcome in self.outcomes if outcome.error]
        p50, p99 = ((round(percentile(times, part) * 1000, 1) if times else None) for part in (50, 99))
        return {
            "minutes": self.minutes,
            "photos": self.photos,
            "capacity_per_second": round(self.capacity, 1),
            "rate_per_second": round(self.rate, 1),
            "searches": len(self.outcomes),
            "left_out": self.left_out,
            "put_off": sum(outcome.put_off > 0 for outcome in self.outcomes),
            "put_off_near_kills": sum(outcome.put_off > 0 and self.is_excused(outcome) for outcome in self.outcomes),
            "failed": sum(not self.is_excused(outcome) for outcome in failed),
            "failed_near_kills": sum(self.is_excused(outcome) for outcome in failed),
            "answered_per_second_by_tenth": self._answered_by_tenth(),
            "p50_ms": p50,
            "p99_ms": p99,
            "jobs": self.jobs,
            "kills": [kill.as_json(self.outcomes) for kill in self.kills],
            "memory": [
                {
                    "role": trend.role,
                    "mean_mb": round(trend.mean_mb, 1),
                    "slope_mb_per_hour": round(trend.slope_mb_per_hour, 1),
                    "rise_mb": round(trend.rise_mb, 1),
                    "quarters_mb": [round(size, 1) for size in trend.quarters_mb],
                    "flat": trend.is_flat,
                }
                for trend in self.trends
            ],
            "problems": self.problems,
        }


def _reason(outcome: Outcome) -> str:
    """An error without what differs from search to search."""
    return re.sub(r"[0-9a-f]{24}", "ID", outcome.error or "")[:160]


def summary(figures: dict[str, Any]) -> str:
    """The figures for people."""
    lines = [
        f"{figures['minutes']:g} minutes, {figures['photos']} photos, {figures['jobs']} index jobs, "
        f"{len(figures['kills'])} kills",
        f"{figures['searches']} searches at {figures['rate_per_second']} a second (80 % of "
        f"{figures['capacity_per_second']}): {figures['failed']} failed, and {figures['failed_near_kills']} within "
        f"{KILL_SECONDS:.0f} s of a kill; {figures['left_out']} were left out because too many waited",
        f"{figures['put_off']} were asked to come back, {figures['put_off_near_kills']} of them near a kill",
        f"p50 {figures['p50_ms']} ms, p99 {figures['p99_ms']} ms; answered a second, by tenths of the time: "
        f"{figures['answered_per_second_by_tenth']}",
    ]
    for kill in figures["kills"]:
        lines.append(
            f"  SIGKILL of {kill['part']:<10} {kill['failed']:4} searches failed, the last one that began later "
            f"{kill['last_failure_began_after_s']} s after it"
        )
    verdicts = {True: "flat", False: "GROWS", None: "too short to tell"}
    for trend in figures["memory"]:
        lines.append(
            f"  {trend['role']:<20} {trend['mean_mb']:7.1f} MB {trend['slope_mb_per_hour']:+8.1f} MB/h "
            f"({trend['rise_mb']:+.1f} MB)  {verdicts[trend['flat']]:<17} quarters: {trend['quarters_mb']}"
        )
    lines += [f"WRONG: {problem}" for problem in figures["problems"]]
    return "\n".join([*lines, "failed" if figures["problems"] else "ok"])
