"""What people ask for: each command is done or refused once, with words that say why."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from trimtab.contracts.control import CommandSettled, DeploymentChanged
from trimtab.registry.core.rollout import Deployed, Why, event_time, promoted, returned, without_shadow
from trimtab.registry.core.state import REMEMBERED, Command, CommandKind, Rules, State


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a command changes nothing."""

    detail: str


def obeyed(
    state: State, rules: Rules, command: Command
) -> tuple[State, tuple[DeploymentChanged | CommandSettled, ...]]:
    """The state after a command, the deployment that it leads to and the answer. A copy of a command does nothing."""
    if command.id in state.settled:
        return state, ()
    state = replace(state, settled=(*state.settled, command.id)[-REMEMBERED:])
    found = _DOES[command.kind](state, rules, command)
    if isinstance(found, Refusal):
        return state, (_answer(state, command, found),)
    state, event = found
    return state, (event, _answer(state, command, None))


def _promote(state: State, rules: Rules, command: Command) -> Deployed | Refusal:
    version = state.version(command.version)
    if version is None:
        return Refusal(_no_such_version(state, command.version))
    if version.number == state.champion:
        return Refusal(f"version {version.number} is the champion already")
    if not rules.answers(version):
        return Refusal(_other_features(version.number))
    return promoted(state, rules, version.number, _time(state, command), _why(command))


def _rollback(state: State, rules: Rules, command: Command) -> Deployed | Refusal:
    earlier = [version for number in state.former if number != state.champion and (version := state.version(number))]
    able = [version.number for version in earlier if rules.answers(version)]
    if command.version is not None and state.version(command.version) is None:
        return Refusal(_no_such_version(state, command.version))
    if command.version is not None and command.version not in {version.number for version in earlier}:
        return Refusal(f"version {command.version} has not served before: promote it instead")
    if not earlier:
        return Refusal("no other version has served before: there is nothing to go back to")
    number = command.version or (able or [earlier[-1].number])[-1]
    if number not in able:
        return Refusal(_other_features(number))
    return returned(state, rules, number, _time(state, command), _why(command))


def _retire_shadow(state: State, _rules: Rules, command: Command) -> Deployed | Refusal:
    shadows = [shadow.version for shadow in state.shadows]
    if command.version is None or command.version not in shadows:
        known = ", ".join(map(str, shadows)) or "none"
        return Refusal(f"version {command.version} is no shadow (shadows: {known})")
    state = replace(state, dropped=(*state.dropped, command.version))
    return without_shadow(state, command.version, _time(state, command), _why(command))


_DOES: Mapping[CommandKind, Callable[[State, Rules, Command], Deployed | Refusal]] = {
    "promote": _promote,
    "rollback": _rollback,
    "retire_shadow": _retire_shadow,
}


def _other_features(number: int) -> str:
    return f"version {number} takes other features than the loop declares now: it could not score a single ask"


def _no_such_version(state: State, number: int | None) -> str:
    if number is None:
        return "which version? say its number"
    return (
        f"there is no version {number}: the versions are 1 to {len(state.versions)}"
        if state.versions
        else "there is no version yet"
    )


def _time(state: State, command: Command) -> int:
    return event_time(state, command.at_ms)


def _why(command: Command) -> Why:
    note = f"{command.kind} by {command.by}"
    return Why("commanded", note=f"{note}: {command.note}" if command.note else note)


def _answer(state: State, command: Command, refusal: Refusal | None) -> CommandSettled:
    done = f"version {state.champion} serves, shadows: {[shadow.version for shadow in state.shadows]}"
    return CommandSettled(
        loop=state.loop,
        at_ms=_time(state, command),
        command_id=command.id,
        outcome="done" if refusal is None else "refused",
        detail=done if refusal is None else refusal.detail,
        sequence=None if refusal else state.sequence,
    )
