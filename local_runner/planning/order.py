"""In which order steps can run: dependencies, cycles, and a stable topological order. No I/O."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping

from local_runner.models import Dependency, PipelineDefinition, Step

Graph = Mapping[str, Collection[str]]
"""Names, each with those that it waits for."""


def dependencies(step: Step, definition: PipelineDefinition) -> tuple[Dependency, ...]:
    """What the step waits for: its DependsOn, the steps that its values read, and the Condition it stands in.

    Where DependsOn names a step with a trigger, that trigger holds for the values read from it as well. Names that no
    step of the definition has are left out.
    """
    found = {dependency.step: dependency for dependency in step.depends_on}
    for name in step.references:
        found.setdefault(name, Dependency(name))
    if step.branch is not None:
        found.setdefault(step.branch.condition, Dependency(step.branch.condition))
    return tuple(dependency for dependency in found.values() if dependency.step in definition.names)


def ordered(graph: Graph) -> list[str]:
    """The names so that each comes after those it waits for, otherwise as given; those in cycles are left out."""
    position = {name: index for index, name in enumerate(graph)}
    waiting = {name: len(set(needed)) for name, needed in graph.items()}
    followers = following(graph)
    ready = [(position[name], name) for name, count in waiting.items() if not count]
    heapq.heapify(ready)
    result: list[str] = []
    while ready:
        _, name = heapq.heappop(ready)
        result.append(name)
        for follower in followers[name]:
            waiting[follower] -= 1
            if not waiting[follower]:
                heapq.heappush(ready, (position[follower], follower))
    return result


def following(graph: Graph) -> dict[str, list[str]]:
    """Names, each with those that wait for it."""
    found: dict[str, list[str]] = {name: [] for name in graph}
    for name, needed in graph.items():
        for other in set(needed):
            found[other].append(name)
    return found


def reach(begin: Iterable[str], edges: Graph) -> set[str]:
    """Everything that can be reached, the beginning included."""
    found = set(begin)
    waiting = list(found)
    while waiting:
        more = set(edges[waiting.pop()]) - found
        found |= more
        waiting += more
    return found


def ends_without(lacking: Iterable[str], graph: Graph) -> list[str]:
    """The last steps of all that neither are nor follow one of ``lacking``: ``--to`` these selects just those."""
    followers = following(graph)
    left = graph.keys() - reach(lacking, followers)
    return [name for name in graph if name in left and left.isdisjoint(followers[name])]


def cycles(graph: Graph) -> list[list[str]]:
    """Cycles that share no step, each as its names in waiting order; empty only where there is no cycle at all."""
    found: list[list[str]] = []
    left = {name: list(needed) for name, needed in graph.items()}
    while True:
        done = set(ordered(left))
        left = {name: [other for other in needed if other not in done] for name, needed in left.items()}
        left = {name: needed for name, needed in left.items() if name not in done}
        if not left:
            return found
        # Every step that is left waits for one that is left, so that following them must come round.
        name, trail = next(iter(left)), dict[str, None]()
        while name not in trail:
            trail[name] = None
            name = left[name][0]
        names = list(trail)
        cycle = names[names.index(name) :]
        found.append(cycle)
        left = {
            name: [other for other in needed if other not in cycle]
            for name, needed in left.items()
            if name not in cycle
        }
