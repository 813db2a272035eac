"""Circles in a graph."""

from collections.abc import Hashable


def circles(needs: dict[Hashable, set[Hashable]]) -> list[list[Hashable]]:
    """Return the strongly connected parts of a graph that have a circle (Tarjan's algorithm, without recursion)."""
    number: dict[Hashable, int] = {}
    low: dict[Hashable, int] = {}
    open_: list[Hashable] = []
    inside: set[Hashable] = set()
    found = []
    for root in needs:
        if root in number:
            continue
        work = [(root, iter(needs[root]))]
        number[root] = low[root] = len(number)
        open_.append(root)
        inside.add(root)
        while work:
            key, rest = work[-1]
            for other in rest:
                if other not in number:
                    number[other] = low[other] = len(number)
                    open_.append(other)
                    inside.add(other)
                    work.append((other, iter(needs[other])))
                    break
                if other in inside:
                    low[key] = min(low[key], number[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[key])
                if low[key] == number[key]:
                    part: list[Hashable] = []
                    while not part or part[-1] != key:
                        part.append(open_.pop())
                        inside.discard(part[-1])
                    if len(part) > 1 or key in needs[key]:
                        found.append(part)
    return found
