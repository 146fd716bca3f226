"""A model of the job protocol: one job, the API, two workers, the reconciler, the broker and time. It does no I/O.

A state holds the committed record and every open transaction. A transaction locks the job's record at its first step,
and commits at its second; its process may die in between. `steps` yields what may happen next. `explore` visits every
state, and checks the laws at each step. `tests/protocol/driver.py` takes the same steps in PostgreSQL.
"""

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import NamedTuple

CHECKPOINTS = 2
"""The job is done after so many. The second one makes the first version's weights superfluous."""

MAX_ATTEMPTS = 2
ACTIVE = ("running", "cancelling")
ENDED = ("succeeded", "failed", "cancelled")
WRITES = ("renew", "checkpoint", "succeed", "fail", "crash", "stop")
READ_THE_CLOCK = ("claim", "renew", "crash")
LOCK_THE_MODEL = ("checkpoint", "succeed")
NAMES = ("first", "second")


class Row(NamedTuple):
    """The committed record of the job, and of its versions.

    lease: "live" or "lapsed" while the job runs, otherwise "".
    due: the wait after a failure is over.
    first_kept: nothing has deleted the weights of version 1.
    production: the version that the alias points at; 0 for none.
    """

    status: str = "none"
    attempt: int = 0
    lease: str = ""
    due: bool = True
    failures: int = 0
    checkpoints: int = 0
    first_kept: bool = True
    production: int = 0


class Worker(NamedTuple):
    """A worker, as it sees itself. attempt: the claim that it believes to hold; 0 for none.

    open: what its open transaction does. waits: for the lock on the job's record. late: a lease's time has passed since
    the transaction read the clock.
    """

    attempt: int = 0
    open: str = ""
    waits: bool = False
    late: bool = False

    @property
    def locks(self) -> bool:
        """True while its transaction has the lock."""
        return self.open != "" and not self.waits


class State(NamedTuple):
    """api, rescue: their open transactions. unsent: a hint that the API owes."""

    row: Row = Row()
    api: str = ""
    workers: tuple[Worker, Worker] = (Worker(), Worker())
    rescue: bool = False
    unsent: bool = False
    hint: bool = False


class Step(NamedTuple):
    """actor: a worker's name, "api", "reconciler", "broker" or "time"."""

    actor: str
    action: str


class Rules(NamedTuple):
    """The protocol as it is. A test sets one to False, and the laws must notice."""

    rescue_locks: bool = True
    """The reconciler ends only claims whose record it has locked since it saw the lapse."""
    fenced: bool = True
    """A write names its attempt, and needs the lease."""
    looks: bool = True
    """A worker looks for jobs without a hint, too."""
    kept_is_locked: bool = True
    """A promotion and a checkpoint lock the model, so that no weights are deleted while an alias moves to them."""


THE_PROTOCOL = Rules()


def steps(state: State, rules: Rules = THE_PROTOCOL) -> Iterator[tuple[Step, State]]:
    """Yield everything that may happen next, with the state after it."""
    yield from _api(state, rules)
    for number in range(len(NAMES)):
        yield from _worker(state, number, rules)
    yield from _reconciler(state, rules)
    row = state.row
    if row.lease == "live" or any(one.open == "claim" and not one.late for one in state.workers):
        first, second = (one._replace(late=one.locks and one.open in READ_THE_CLOCK) for one in state.workers)
        lapsed = row._replace(lease="lapsed" if row.lease else "")
        yield Step("time", "lapse"), state._replace(row=lapsed, workers=(first, second))
    if row.status == "queued" and not row.due:
        yield Step("time", "due"), state._replace(row=row._replace(due=True))
    if state.hint:
        yield Step("broker", "lose"), state._replace(hint=False)
    elif row.status == "queued":
        yield Step("broker", "repeat"), state._replace(hint=True)


def _api(state: State, rules: Rules) -> Iterator[tuple[Step, State]]:
    row = state.row
    if row.status == "none":
        yield Step("api", "submit"), state._replace(row=row._replace(status="queued"), unsent=True)
        return
    if state.api or state.unsent:
        yield Step("api", "die"), _granted(state._replace(api="", unsent=False), rules)
    if state.unsent:
        yield Step("api", "send"), state._replace(unsent=False, hint=True)
    if state.api == "cancel":
        ends = row.status == "queued"
        after = row._replace(status="cancelled" if ends else "cancelling", due=True)
        yield Step("api", "commit"), _granted(state._replace(api="", row=after), rules)
    elif state.api == "promote":
        yield Step("api", "commit"), state._replace(api="", row=row._replace(production=1))
    else:
        if not _locked(state, rules):
            yield Step("api", "cancel"), state._replace(api="" if row.status in ENDED else "cancel")
            if row.status in ("failed", "cancelled"):
                again = row._replace(status="queued", due=True, failures=0)
                yield Step("api", "retry"), state._replace(row=again, unsent=True)
        model_is_locked = any(one.locks and one.open in LOCK_THE_MODEL for one in state.workers)
        if row.checkpoints and not (rules.kept_is_locked and model_is_locked):
            yield Step("api", "promote"), state._replace(api="promote" if row.first_kept else "")


def _worker(state: State, number: int, rules: Rules) -> Iterator[tuple[Step, State]]:
    name, one, row = NAMES[number], state.workers[number], state.row
    if one.attempt or one.open:
        yield Step(name, "die"), _granted(_with(state, number, Worker()), rules)
    if one.locks:
        done = _committed(state, number)
        yield Step(name, "commit"), _granted(done, rules)
        if not done.workers[number].attempt:
            unaware = one._replace(open="", late=False)
            yield Step(name, "commit unheard"), _granted(_with(done, number, unaware), rules)
    elif one.attempt and not one.open:
        for kind in WRITES:
            if one.attempt != row.attempt or _fits(state, kind):
                begun = _with(state, number, one._replace(open=kind, waits=True))
                if rules.fenced and one.attempt != row.attempt:
                    begun = _with(state, number, Worker())
                elif not _locked(state, rules):
                    begun = _granted(begun, rules)
                model_is_free = not rules.kept_is_locked or state.api != "promote"
                if model_is_free or kind not in LOCK_THE_MODEL or not begun.workers[number].locks:
                    yield Step(name, kind), begun
    elif not one.open:
        free = row.status == "queued" and row.due and not _locked(state, rules)
        found = _with(state, number, Worker(open="claim")) if free else state
        if rules.looks:
            yield Step(name, "look"), found
        if state.hint:
            yield Step(name, "take hint"), found._replace(hint=False)


def _reconciler(state: State, rules: Rules) -> Iterator[tuple[Step, State]]:
    locked = _locked(state, rules)
    if not state.rescue:
        free = state.row.lease == "lapsed" and not (rules.rescue_locks and locked)
        yield Step("reconciler", "look"), state._replace(rescue=free)
        return
    yield Step("reconciler", "die"), _granted(state._replace(rescue=False), rules)
    if rules.rescue_locks or not locked:
        yield Step("reconciler", "commit"), _granted(state._replace(rescue=False, row=_after_bad_end(state.row)), rules)


def _locked(state: State, rules: Rules) -> bool:
    """True when a transaction holds the job's record."""
    worker = any(one.locks for one in state.workers)
    return worker or state.api == "cancel" or (state.rescue and rules.rescue_locks)


def _fits(state: State, kind: str) -> bool:
    """True when a worker whose claim is valid would write this."""
    done = state.row.checkpoints == CHECKPOINTS
    return {"checkpoint": not done, "succeed": done}.get(kind, True)


def _asked_to_stop(state: State) -> bool:
    return state.row.status == "cancelling"


def _with(state: State, number: int, worker: Worker) -> State:
    first, second = state.workers
    return state._replace(workers=(worker, second) if number == 0 else (first, worker))


def _granted(state: State, rules: Rules) -> State:
    """The state after a lock was released: a worker that waits gets it, or learns that its claim is over."""
    for number, one in enumerate(state.workers):
        if one.waits and not _locked(state, rules):
            row = state.row
            valid = one.attempt == row.attempt and row.lease == "live" if rules.fenced else row.status in ACTIVE
            state = _with(state, number, one._replace(waits=False) if valid else Worker())
    return state


def _committed(state: State, number: int) -> State:
    one, row = state.workers[number], state.row
    lease = "lapsed" if one.late else "live"
    after = Worker()
    match one.open:
        case "claim":
            row = row._replace(status="running", attempt=row.attempt + 1, lease=lease)
            after = Worker(attempt=row.attempt)
        case "renew":
            row, after = row._replace(lease=lease), Worker(attempt=one.attempt)
        case "checkpoint":
            saved = row.checkpoints + 1
            kept = row.first_kept and (saved < CHECKPOINTS or row.production == 1)
            row = row._replace(checkpoints=saved, failures=0, first_kept=kept)
            after = Worker(attempt=one.attempt)
        case "succeed":
            row = row._replace(status="succeeded", lease="", production=row.checkpoints)
        case "fail":
            row = row._replace(status="failed", lease="")
        case "crash":
            row = _after_bad_end(row, due=one.late)
        case "stop" if _asked_to_stop(state):
            row = row._replace(status="cancelled", lease="")
        case "stop":
            row = row._replace(status="queued", lease="", due=True)
    return _with(state._replace(row=row), number, after)


def _after_bad_end(row: Row, due: bool = False) -> Row:
    row = row._replace(failures=row.failures + 1, lease="")
    if row.status == "cancelling":
        return row._replace(status="cancelled")
    if row.failures >= MAX_ATTEMPTS:
        return row._replace(status="failed")
    return row._replace(status="queued", due=due)


def broken_law(before: State, step: Step, after: State) -> str | None:
    """The law that a step breaks, or None."""
    old, new = before.row, after.row
    writer = before.workers[NAMES.index(step.actor)] if step.actor in NAMES else None
    claims = writer is not None and writer.open == "claim"
    valid = writer is not None and writer.attempt == old.attempt and old.status in ACTIVE
    holders = [one.attempt for one in after.workers if one.attempt]
    laws = {
        "a job ends once": old.status not in ENDED or new.status == old.status or step == Step("api", "retry"),
        "only a claim raises the attempt, by one": new.attempt == old.attempt + (claims and step.action == "commit"),
        "only a queued job is claimed": new.attempt == old.attempt or old.status == "queued",
        "no two workers have the same attempt": len(holders) == len(set(holders)),
        "nothing is written after the claim is over": writer is None or new == old or claims or valid,
        "only a lapsed claim is rescued": step != Step("reconciler", "commit") or old.lease == "lapsed",
        "a job has a lease while it runs": (new.lease != "") == (new.status in ACTIVE),
        "a cancelled job does not run again": old.status != "cancelling" or new.status not in ("queued", "running"),
        "success is complete": new.status != "succeeded" or new.checkpoints == CHECKPOINTS,
        "a promoted version is complete": new.production != 1 or new.first_kept,
    }
    return next((law for law, holds in laws.items() if not holds), None)


def is_fair(before: State, step: Step, after: State) -> bool:
    """True for a step that must happen some time: nothing dies, nobody asks for anything, and no worker stalls."""
    match step.action:
        case "die" | "lose" | "repeat" | "commit unheard" | "cancel" | "retry" | "promote" | "crash" | "fail":
            return False
        case "lapse":
            return not any(one.open == "claim" or one.attempt == before.row.attempt for one in before.workers)
        case "renew":  # renewing for ever is no progress, but a worker must notice that its claim is over
            return not after.workers[NAMES.index(step.actor)].open
        case "stop":
            return _asked_to_stop(before)
        case _:
            return True


@cache
def kind_of(state: State) -> State:
    """A representative of all states that differ only in the workers' names and in how many attempts there were."""
    current = state.row.attempt
    first, second = sorted(
        one._replace(attempt=(2 if one.attempt == current else 1) if one.attempt else 0) for one in state.workers
    )
    return state._replace(row=state.row._replace(attempt=2), workers=(first, second))


class Broken(Exception):
    """A law is broken. trace: the shortest way there."""

    def __init__(self, law: str, trace: Sequence[Step]) -> None:
        super().__init__(f"{law}: {', '.join(f'{step.actor} {step.action}' for step in trace)}")
        self.law = law
        self.trace = trace


Edges = Mapping[State, Sequence[tuple[Step, State]]]
"""By the kind of a state, its steps with the states after them."""


def explore(rules: Rules = THE_PROTOCOL) -> Edges:
    """Visit every kind of state, breadth first; raises Broken."""
    begin = State()
    edges: dict[State, list[tuple[Step, State]]] = {}
    reached: dict[State, tuple[State, Step] | None] = {kind_of(begin): None}
    waiting = deque([begin])

    def trace_to(state: State) -> list[Step]:
        trace: list[Step] = []
        while origin := reached[kind_of(state)]:
            state, step = origin
            trace.append(step)
        return trace[::-1]

    while waiting:
        state = waiting.popleft()
        edges[kind_of(state)] = list(steps(state, rules))
        for step, after in edges[kind_of(state)]:
            if law := broken_law(state, step, after):
                raise Broken(law, [*trace_to(state), step])
            if kind_of(after) not in reached:
                reached[kind_of(after)] = state, step
                waiting.append(after)
    for kind in endless(edges):
        raise Broken("an accepted job ends", trace_to(kind))
    return edges


def endless(edges: Edges) -> Iterator[State]:
    """Yield the states from which fair steps may lead round for ever, or to a stop before the job has ended."""
    ways: dict[State, int] = {}
    origins: dict[State, list[State]] = defaultdict(list)
    for state, following in edges.items():
        fair = {kind_of(after) for step, after in following if is_fair(state, step, after)} - {state}
        ways[state] = len(fair)
        for after in fair:
            origins[after].append(state)
    ending = [state for state, number in ways.items() if number == 0 and state.row.status in ENDED]
    for state in ending:  # the list grows: a state joins it when all its ways lead to an end
        for origin in origins[state]:
            ways[origin] -= 1
            if ways[origin] == 0:
                ending.append(origin)
    ends = set(ending)
    yield from (state for state in edges if state not in ends)
