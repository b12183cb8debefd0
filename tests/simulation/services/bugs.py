"""Mistakes in services, each planted alone: a simulation that does not find them proves nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec
from trimtab.contracts import control, topics
from trimtab.contracts.control import ModelRegistered, ModelTrained
from trimtab.ingest.core.memory import Memory
from trimtab.ingest.stages import DedupeStep
from trimtab.loops.online import Finished, OnlineStore
from trimtab.loops.partials import Ints
from trimtab.ml.scoring import Scorer
from trimtab.monitor.core.joining import JoinState, Spans
from trimtab.monitor.stages.join import Join
from trimtab.predictor.adapters.deployments import DeploymentsView
from trimtab.predictor.adapters.online import OnlineView
from trimtab.predictor.core import Deployment, Model
from trimtab.retrain_controller.core import State
from trimtab.runtime.memory import MemoryTransactions
from trimtab.runtime.records import Out, Read
from trimtab.runtime.stage import Batch, Result, Stage, Tables
from trimtab.store.blobs import BlobStore
from trimtab.testing.simulation import SESSION_S, Dice, Kind, SimulatedBus, draw

from tests.simulation.services.processes import KINDS, Assembly, Site
from tests.simulation.services.stand import STEPS, plan_of, stand
from tests.simulation.services.stream import HOUR_MS, loop
from tests.simulation.services.world import Plan

NAME = loop().name
ACCEPT, DEDUPE = topics.group("ingest", "accept", NAME), topics.group("ingest", "dedupe", NAME)
SCORE, JOIN = topics.group("predictor", "score", NAME), topics.group("monitor", "join", NAME)
FOLD, DECIDE = topics.group("registry", "fold"), topics.group("retrain-controller", "decide")
FIT = topics.group("trainer", "fit")
MANY = 40
ACCEPTED = [topics.accepted(NAME, event) for event in loop().events]


def unkeyed(stage: Stage, _site: Site) -> Stage:
    """Accepted events stay in their source's partition: copies are dropped before they can meet."""

    def step(partition: int, tables: Tables, batch: Batch) -> Result:
        result = stage.step(partition, tables, batch)
        return replace(
            result,
            out=[
                msgspec.structs.replace(out, partition=partition) if out.topic in ACCEPTED else out
                for out in result.out
            ],
        )

    return replace(stage, step=step)


class Unforgetting(DedupeStep):
    """Keeps what it remembers over a transaction that was not committed."""

    def _memory(self, partition: int, tables: Tables) -> Memory:
        memory = self._memories.get(partition)
        return memory if memory is not None else super()._memory(partition, tables)


def unforgetting(stage: Stage, _site: Site) -> Stage:
    """The step above with what the sound one was made of."""
    step = Unforgetting.__new__(Unforgetting)
    step.__dict__.update(vars(stage.step))
    return replace(stage, step=step)


class Ahead:
    """Values of an hour after the asker's time."""

    def __init__(self, store: OnlineStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def finish(self, digest: str, keys: Sequence[str | None], at_ms: Ints) -> Finished:
        """As of later."""
        return self._store.finish(digest, keys, at_ms + HOUR_MS)


def ahead(stage: Stage, _site: Site) -> Stage:
    """The replica says what is not known yet."""
    for view in stage.views:
        if isinstance(view, OnlineView):
            view.store = Ahead(view.store)  # type: ignore[assignment]  # it is a store in all but its type
    return stage


def hasty(stage: Stage, _site: Site) -> Stage:
    """Asks do not wait for their features."""
    return replace(stage, gate=())


class Candidates:
    """Takes each trained model for a deployed one."""

    topic: str = topics.MODEL_TRAINED
    clock: Literal["marks", "none"] = "none"
    writers: Mapping[str, int] = {}

    def __init__(self, view: DeploymentsView, blobs: BlobStore) -> None:
        self._view, self._blobs = view, blobs

    def apply(self, records: Sequence[Read]) -> None:
        """Serve it at once."""
        for record in records:
            event = control.decode_as(ModelTrained, record.value or b"")
            known = self._view.deployments.newest()
            version = 1 if known is None or known.champion is None else known.champion.version + 1
            scorer = Scorer.load(event.model.format, self._blobs.get(event.model.digest))
            model = Model(version, event.model.digest, (), scorer)
            sequence = version * 1000
            self._view.deployments = self._view.deployments.with_one(Deployment(sequence, event.at_ms, model, ()))


def unjudged(stage: Stage, site: Site) -> Stage:
    """Candidates are served before their verdict."""
    view = next(view for view in stage.views if isinstance(view, DeploymentsView))
    return replace(stage, views=[*stage.views, Candidates(view, BlobStore(site.blobs))])


class Held:
    """No holds."""

    def spans(self) -> Spans:
        """None."""
        return ()


class Hoarding(Join):
    """Keeps its index over a transaction that was not committed."""

    def _join_of(self, partition: int, state: JoinState) -> Any:
        _, labels = self._joins.get(partition, (None, None))
        return labels if labels is not None else super()._join_of(partition, state)


def hoarding(stage: Stage, _site: Site) -> Stage:
    """The join above."""
    return replace(stage, step=Hoarding(loop(), Held()))


def counting(stage: Stage, _site: Site) -> Stage:
    """Versions are numbered by a counter in memory, outside of the transaction."""
    last: dict[int, int] = {}

    def step(partition: int, tables: Tables, batch: Batch) -> Result:
        state = tables["loops"].get(NAME)
        last.setdefault(partition, 0 if state is None else len(state.versions))
        result = stage.step(partition, tables, batch)
        return replace(result, out=[numbered(partition, out) for out in result.out])

    def numbered(partition: int, out: Out) -> Out:
        if out.topic != topics.MODEL_REGISTERED:
            return out
        last[partition] += 1
        event = control.decode_as(ModelRegistered, out.value or b"")
        return msgspec.structs.replace(out, value=control.encode(event.model_copy(update={"version": last[partition]})))

    return replace(stage, step=step)


def forgetful(stage: Stage, _site: Site) -> Stage:
    """The controller's requests, open ones and those that its cooldown counts from, are not restored."""
    decode = msgspec.json.Decoder(State).decode

    def without(value: bytes) -> State:
        return replace(decode(value), open=None, attempt=None, attempts=0, requested_ms=(), answered=())

    return replace(stage, tables=[replace(spec, decode=without) for spec in stage.tables])


class Unfenced(SimulatedBus):
    """Trainers are not fenced: one that was held to be dead answers as well."""

    def check_owner(self, owner: MemoryTransactions) -> None:
        """Whoever writes is the owner."""
        if owner.group == FIT:
            self._owners[owner.transactional_id] = owner
        super().check_owner(owner)


@dataclass(frozen=True, slots=True)
class Bug:
    """A mistake and what it does to people: every finding that counts says so. `aim`: the service to strike at.

    `kind`: of the faults; None: any.
    """

    assembly: Assembly
    symptom: str
    aim: str
    kind: Kind | None = None


def planted(symptom: str, group: str, change: Callable[[Stage, Site], Stage], kind: Kind | None = None) -> Bug:
    """In a stage of the service that is struck at."""
    return Bug(Assembly({group: change}), symptom, group.partition(".")[0], kind)


BUGS: Mapping[str, Bug] = {
    "dedupe before keying": planted("accepted ride: too many", ACCEPT, unkeyed),
    "ids remembered without a commit": planted("accepted", DEDUPE, unforgetting, Kind.LOSE),
    "features read ahead": planted("recomputed", SCORE, ahead),
    "gate ignored": planted("recomputed", SCORE, hasty),
    "candidate served unjudged": planted("in force were", SCORE, unjudged),
    "join remembers without a commit": planted("outcomes", JOIN, hoarding, Kind.LOSE),
    "version outside of the transaction": planted("versions are", FOLD, counting, Kind.HOLD),
    "controller forgets requests": planted("2 requests", DECIDE, forgetful),
    "zombie trainer": Bug(Assembly(bus=Unfenced), "had 2 ends", "trainer", Kind.PAUSE),
}


def plan_for(bug: Bug, seed: int) -> Plan:
    """The plan of a seed, aimed where the bug is; where it takes one kind of fault, many of those."""
    plan = replace(plan_of(seed), aim=KINDS.index(bug.aim))
    if bug.kind is None:
        return plan
    drawn = draw(Dice(seed), most=MANY, steps=STEPS)
    return replace(plan, faults=[replace(one, kind=bug.kind, lasts_s=SESSION_S + one.lasts_s) for one in drawn])


def found(name: str, seed: int) -> bool:
    """Whether the schedule of a seed shows a planted bug."""
    bug = BUGS[name]
    return any(bug.symptom in finding for finding in stand().simulate(plan_for(bug, seed), bug.assembly).findings)
