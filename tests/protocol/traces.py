"""Traces through the model for `tests/protocol/driver.py`, which together cover what is wanted of them.

A database sees nothing of hints, so the traces leave out the steps of the broker.
"""

import random
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import cache

from tests.protocol.model import NAMES, WRITES, State, Step, kind_of, steps

LONGEST = 100
"""A trace ends after so many steps, so that a failed one can be read."""

_OF_HINTS = ("send", "lose", "repeat", "take hint")

Trace = Sequence[tuple[Step, State]]
"""Steps with the states after them, from the beginning."""

Label = tuple[str, str, str]
"""A transition without the worker's name: actor, action, and what it does to the actor's transaction."""

Move = tuple[Label, State]
"""A transition, and the kind of the state after it."""

Place = tuple[Hashable, State]
"""The memory of the move before, and the kind of the state."""


def all_steps(seed: int) -> Iterator[Trace]:
    """Yield traces that take every step from every kind of state."""
    return _covering(lambda before, kind, move: {(kind, move)}, lambda label: None, seed)


def all_pairs(seed: int) -> Iterator[Trace]:
    """Yield traces that take every transition, and every one after every other one that it can follow.

    In a pair, writes count as one transition until their commit.
    """
    return _covering(lambda before, kind, move: {move[0], (before, _coarse(move[0]))}, _coarse, seed)


def _covering(
    goals: Callable[[Hashable, State, Move], set[Hashable]], memory: Callable[[Label], Hashable], seed: int
) -> Iterator[Trace]:
    """Yield traces until they have covered all goals that can be reached.

    goals: what a move covers, after the memory of the move before and from a kind of state.
    memory: what is remembered of a move.
    """
    draw, covered = random.Random(seed), set[Hashable]()

    def way(begin: Place) -> list[tuple[Place, Move]]:
        """The shortest way to something that is not covered; empty when there is none."""
        reached: dict[Place, list[tuple[Place, Move]]] = {begin: []}
        waiting = deque([begin])
        while waiting:
            place = waiting.popleft()
            if fresh := [move for move in _moves(place[1]) if not goals(*place, move) <= covered]:
                return [*reached[place], (place, draw.choice(fresh))]
            for move in _moves(place[1]):
                if (after := (memory(move[0]), move[1])) not in reached:
                    reached[after] = [*reached[place], (place, move)]
                    waiting.append(after)
        return []

    while True:
        place: Place = (None, kind_of(State()))
        moves: list[Move] = []
        while len(moves) < LONGEST and (steps_there := way(place)):
            for before, move in steps_there:
                covered |= goals(*before, move)
                place = (memory(move[0]), move[1])
                moves.append(move)
        if not moves:
            return
        yield _trace(moves)


def label(before: State, step: Step, after: State) -> Label:
    """The kind of a transition."""
    if step.actor not in NAMES:
        return step.actor, step.action, f"{before.api or after.api}" if step.actor == "api" else f"{after.rescue}"
    number = NAMES.index(step.actor)
    old, new = before.workers[number], after.workers[number]
    if old.open:
        return "worker", step.action, old.open
    what = "waits" if new.waits else "opens" if new.open else "ends" if old.attempt else "nothing"
    return "worker", step.action, what


def _coarse(label: Label) -> Label:
    actor, action, what = label
    if action in (*WRITES, "commit unheard") or (actor, action) == ("worker", "die"):
        return actor, "write" if action in WRITES else action, what if action in WRITES else ""
    return label


def database_steps(state: State) -> Iterator[tuple[Step, State]]:
    """Yield the steps that the database sees."""
    for step, after in steps(state):
        if step.action not in _OF_HINTS:
            yield step, after._replace(unsent=False, hint=False)


@cache
def _moves(kind: State) -> Sequence[Move]:
    return list(dict.fromkeys((label(kind, step, after), kind_of(after)) for step, after in database_steps(kind)))


def _trace(moves: Sequence[Move]) -> Trace:
    """Give names and attempts to the moves."""
    state, trace = State(), list[tuple[Step, State]]()
    for move in moves:
        for step, after in database_steps(state):
            if (label(state, step, after), kind_of(after)) == move:
                trace.append((step, after))
                state = after
                break
    return trace
