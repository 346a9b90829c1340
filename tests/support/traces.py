"""Recorded editing sessions: who typed what on top of which version (format in the data folder's README)."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

Version = tuple[int, ...]
"""How many edits of each agent it holds. An agent's own edits follow one another, so this names it exactly."""


@dataclass(frozen=True, slots=True)
class Step:
    """One recorded edit: `parents` is the version on which `agent` made it."""

    agent: int
    parents: Version
    patches: Sequence[tuple[int, int, str]]


@dataclass(frozen=True, slots=True)
class Trace:
    """A session of `agents` people, and the text at its end."""

    agents: int
    steps: Sequence[Step]
    end: str

    def quiet_near(self, middle: int) -> int:
        """The step nearest to `middle` before which everybody's next edit knows everything: a merge of all."""
        seen, counts = [0] * self.agents, []
        for step in self.steps:
            counts.append(tuple(seen))
            seen[step.agent] += 1
        following: list[Version | None] = [None] * self.agents
        quiet = []
        for number in range(len(self.steps) - 1, -1, -1):
            following[self.steps[number].agent] = self.steps[number].parents
            if all(version is None or _holds(version, counts[number]) for version in following):
                quiet.append(number)
        return min(quiet, key=lambda number: abs(number - middle))


def load(path: Path, most: int | None = None) -> Trace:
    """The trace at `path`; only its first `most` edits when given, with `end` empty."""
    with gzip.open(path, "rt") as file:
        raw = json.load(file)
    agents = raw["numAgents"]
    versions: list[Version] = []
    steps = []
    for txn in raw["txns"][:most]:
        parents = _united([versions[parent] for parent in txn["parents"]], agents)
        agent = txn["agent"]
        steps.append(Step(agent, parents, [tuple(patch) for patch in txn["patches"]]))
        versions.append(tuple(count + (number == agent) for number, count in enumerate(parents)))
    return Trace(agents, steps, raw["endContent"] if most is None else "")


def _united(versions: Sequence[Version], agents: int) -> Version:
    return tuple(max((version[agent] for version in versions), default=0) for agent in range(agents))


def _holds(version: Version, other: Version) -> bool:
    return all(mine >= theirs for mine, theirs in zip(version, other, strict=True))
