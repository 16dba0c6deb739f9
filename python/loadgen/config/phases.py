"""The phases of a run's options: a list of mappings, each read by the same table as the run's own options."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

import msgspec

from loadgen.config import elsewhere, values
from loadgen.config.check import LOADS, check, check_target
from loadgen.config.known import nearest
from loadgen.config.nodes import misfits
from loadgen.config.options import OPTIONS, STAGED, ArrivalKind, Config, PhaseKind, PhaseOptions
from loadgen.errors import ConfigError

PER_PHASE = tuple(name for name, option in OPTIONS.items() if option.per_phase)
_OWN = ("name", "type", "drain", "scorer", "target_field")
_KINDS: tuple[PhaseKind, ...] = get_args(PhaseKind)


class Around(msgspec.Struct, frozen=True):
    """What a list of phases is read against.

    Args:
        targets: The fields of the options that name the targets.
        defaults: The options beside the list, typed: what a phase leaves out.
        flags: Options that win over the phases' own, typed.
        read: Reads one option: its name, its value, and how the user calls it.
        where: What an error says behind a key, such as `` in load.yaml``.
    """

    targets: Mapping[str, Any]
    defaults: Mapping[str, Any]
    flags: Mapping[str, Any]
    read: Callable[[str, Any, Callable[[str], str]], Any]
    where: str


def phases(given: Any, around: Around) -> tuple[PhaseOptions, ...]:
    """Read the phases of a run.

    Args:
        given: The phases, as they stand in a file or came from a caller.
        around: What they are read against.

    Raises:
        ConfigError: If there is none, or one can't be used; it names the phase.
    """
    if not isinstance(given, Sequence) or isinstance(given, (str, bytes)) or not given:
        raise ConfigError(
            f"phases{around.where} must be a list of phases, at least one",
            "each a mapping such as {name: low, rate: 5, duration: 30s}",
        )
    beside = {**around.defaults, **around.flags}
    if "warmup" in beside:
        raise ConfigError(
            f"warmup and phases{around.where} both say what comes before a measurement",
            "make the warm-up a phase of its own: {name: warmup, type: warmup, requests: 20}",
        )
    check_target(Config(**around.targets, **beside), lambda name: name)
    return tuple(_phase(item, number, around) for number, item in enumerate(given, start=1))


def _phase(item: Any, number: int, around: Around) -> PhaseOptions:
    place = f"phase {number}{around.where}"
    raw = _keys(item, place)
    name = _name(raw.pop("name", None), place)
    behind = f" in phase {name}{around.where}"
    kind = _kind(raw.pop("type", None), behind)
    for key in raw:
        if key not in PER_PHASE and key not in _OWN:
            raise _unknown(key, behind)
    drains, timeout = _drain(raw.pop("drain", None), behind)
    scorer, target_field = _scoring(raw, kind, behind)
    own = {key: _own(key, value, behind, around) for key, value in raw.items()}
    chosen = _over(_over(around.defaults, own, is_default=True), around.flags, is_default=False)
    if timeout is not None and "drain" not in around.flags:
        chosen["drain"] = timeout
    try:
        config = check(Config(**around.targets, **chosen), chosen.keys(), lambda name: name, invent=False)
    except ConfigError as error:
        raise ConfigError(f"phase {name}{around.where}: {error.message}", error.way_out) from None
    return PhaseOptions(name=name, type=kind, options=config, drains=drains, scorer=scorer, target_field=target_field)


def _own(key: str, value: Any, behind: str, around: Around) -> Any:
    return None if value is None else around.read(key, value, lambda name: f"{name}{behind}")


def _scoring(raw: dict[str, Any], kind: str, behind: str) -> tuple[Any, str | None]:
    """Take out of a phase's options what scores its answers."""
    scorer, target_field = raw.pop("scorer", None), raw.pop("target_field", None)
    if kind != "accuracy" and (scorer is not None or target_field is not None):
        which = "scorer" if scorer is not None else "target_field"
        raise ConfigError(f"{which}{behind} needs an accuracy phase", "add type: accuracy")
    return scorer, None if target_field is None else _text(target_field, f"target_field{behind}")


def _keys(item: Any, place: str) -> dict[str, Any]:
    if not isinstance(item, Mapping):
        raise ConfigError(f"{place} must be a mapping of options", "such as {name: low, rate: 5, duration: 30s}")
    got: dict[str, Any] = {}
    for key, value in item.items():
        if not isinstance(key, str):
            raise ConfigError(f"{place}: {key!r} is not an option's name")
        plain = key.replace("-", "_")
        if plain in got:
            raise ConfigError(f"{place} gives {plain} twice (as {key})")
        got[plain] = value
    return got


def _name(value: Any, place: str) -> str:
    if value is None:
        raise ConfigError(f"{place} has no name", "results go by it: name: low, say")
    is_number = isinstance(value, int) and not isinstance(value, bool)  # name: 1 needs no quotes
    return _text(str(value) if is_number else value, f"name of {place}")


def _kind(value: Any, behind: str) -> PhaseKind:
    for kind in _KINDS:
        if value == kind:
            return kind
    if value is None:
        return "performance"
    raise ConfigError(f"type {value!r}{behind} must be one of {', '.join(_KINDS)}")


def _text(value: Any, called: str) -> str:
    try:
        return values.text(value)
    except ValueError as error:
        raise ConfigError(f"{called} {error}") from None


def _unknown(key: str, behind: str) -> ConfigError:
    if key in OPTIONS or key == "phases":
        way_out = "make it a phase of its own: {name: warmup, type: warmup, requests: 20}"
        if key != "warmup":
            way_out = f"put it beside phases: all of them share one {key}"
        return ConfigError(f"{key}{behind} is the whole run's, not a phase's", way_out)
    close = nearest(key, [*PER_PHASE, *_OWN])
    way_out = elsewhere.hint(key, PER_PHASE, str) or (f"perhaps {close}?" if close else "")
    return ConfigError(f"unknown option {key}{behind}", way_out or f"a phase has: {', '.join(PER_PHASE)}")


def _drain(value: Any, behind: str) -> tuple[bool | None, float | None]:
    """Read whether a phase drains, and for how long at most; ``None`` leaves it to the phase's type, and the run."""
    if value is None or isinstance(value, bool):
        return value, None
    try:
        return True, values.duration_or_zero(value)
    except ValueError as error:
        raise ConfigError(f"drain {value}{behind} {error}, or true or false") from None


def _over(lower: Mapping[str, Any], upper: Mapping[str, Any], *, is_default: bool) -> dict[str, Any]:
    """Put options over others; what the others said of a load or of prompts that these replace goes with it.

    Args:
        lower: Options.
        upper: Options that win; ``None`` takes one away.
        is_default: Whether ``lower`` are defaults, of which a phase takes what goes with its load.
    """
    gives_load = any(upper.get(name) is not None for name in LOADS)
    dropped = set(LOADS) if gives_load else set()
    chosen = {name: value for name, value in lower.items() if name not in dropped}
    chosen |= upper
    chosen = {name: value for name, value in chosen.items() if value is not None}
    if is_default or gives_load:
        _drop(chosen, upper, _misfits_of_load(chosen))
    if upper.get("dataset") is not None:
        _drop(chosen, upper, ["input_tokens"])
    elif upper.get("input_tokens") is not None:
        _drop(chosen, upper, ["dataset"])
    if is_default:
        _drop(chosen, upper, ["prompt_field"] if "dataset" not in chosen else [])
        _drop(chosen, upper, ["slo_from"] if not chosen.get("slo") else [])
    _drop(chosen, upper, misfits(chosen.get("balance", "round_robin")))
    return chosen


def _drop(chosen: dict[str, Any], kept: Mapping[str, Any], names: Sequence[str]) -> None:
    for name in names:
        if name not in kept:
            chosen.pop(name, None)


def _misfits_of_load(chosen: Mapping[str, Any]) -> list[str]:
    """Return the options that shape another kind of load than the one chosen."""
    scheduled = "rate" in chosen or "stages" in chosen
    shapes = STAGED if "stages" in chosen else get_args(ArrivalKind)
    arrival = chosen.get("arrival", "poisson")
    found = [] if scheduled and arrival in shapes else ["arrival"]
    found += [] if scheduled and arrival == "gamma" and not found else ["burstiness"]
    found += [] if scheduled else ["max_concurrency"]
    return found + (["requests"] if "burst" in chosen else [])
