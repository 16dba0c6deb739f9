"""Scorers by name: from what a configuration says to the scorer, and back to what a run's log keeps of it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from loadgen.errors import ConfigError
from loadgen.session.scoring.choice import MultipleChoice
from loadgen.session.scoring.exact import ExactMatch
from loadgen.session.scoring.function import FunctionScorer
from loadgen.session.scoring.json_schema import JsonSchema
from loadgen.session.scoring.numeric import NumericAnswer
from loadgen.session.scoring.regex import RegexMatch
from loadgen.session.scoring.rouge import Rouge
from loadgen.session.scoring.score import BuiltIn

AnyScorer: TypeAlias = ExactMatch | NumericAnswer | MultipleChoice | RegexMatch | JsonSchema | Rouge | FunctionScorer

BUILT_IN: dict[str, type[BuiltIn]] = {
    scorer.name: scorer for scorer in (ExactMatch, NumericAnswer, MultipleChoice, RegexMatch, JsonSchema, Rouge)
}
_SHORT = {"regex": "pattern", "rouge": "kind"}
_WAY_OUT = (
    "give one of: exact, numeric, choice, {regex: PATTERN}, {json_schema: FILE}, rouge, {python: MODULE:FUNCTION}"
)


def scorer_of(asked: Any) -> AnyScorer:
    """Return the scorer that is asked for, ready to score: what it lacks is said here, before a run.

    Args:
        asked: A name (``numeric``), a name with its options (``{"regex": "…"}``, ``{"numeric": {"tolerance": 0.01}}``,
            ``{"json_schema": FILE}``, ``{"python": "module:function"}``), a scorer, or any callable.

    Raises:
        ConfigError: If there is no such scorer, an option doesn't fit, or a package is missing.
    """
    if isinstance(asked, (BuiltIn, FunctionScorer)):
        return asked  # type: ignore[return-value]
    if isinstance(asked, str):
        return _named(asked, {})
    if isinstance(asked, dict):
        if len(asked) != 1:
            raise ConfigError(f"a scorer is one name with its options, not {len(asked)}: {', '.join(asked)}", _WAY_OUT)
        ((name, options),) = asked.items()
        return _named(str(name), {} if options is None else options)
    own = getattr(asked, "score", asked)
    if callable(own):
        return FunctionScorer(own)
    raise ConfigError(f"a scorer is a name, a mapping or a callable, not {type(asked).__name__}", _WAY_OUT)


def stored(scorer: AnyScorer) -> dict[str, Any]:
    """Return what a run's log keeps of a scorer; :func:`scorer_of` makes the same of it again.

    Args:
        scorer: The scorer. Of a callable that was given as such only its name is kept.
    """
    if isinstance(scorer, FunctionScorer):
        return {"python": scorer.place}
    if isinstance(scorer, JsonSchema):
        return {"json_schema": scorer.schema}
    return {scorer.name: msgspec.to_builtins(scorer)}


def _named(name: str, options: Any) -> AnyScorer:
    if name == "python":
        return FunctionScorer(_imported(options), str(options))
    kind = BUILT_IN.get(name)
    if kind is None:
        raise ConfigError(f"there is no scorer {name!r}", _WAY_OUT)
    try:
        if name == "json_schema":
            options = {"schema": _schema(options)}
        elif isinstance(options, str) and name in _SHORT:
            options = {_SHORT[name]: options}
        return msgspec.convert(options, kind)  # type: ignore[return-value]
    except (msgspec.ValidationError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"the scorer {name}: {_plainly(error)}", _way_out(options, kind, error)) from None


def _way_out(options: Any, kind: type[Any], error: Exception) -> str:
    if not options:
        return _WAY_OUT
    fields: tuple[str, ...] = getattr(kind, "__struct_fields__", ())
    is_about_keys = any(words in str(error) for words in ("unknown field", "Expected `object`"))
    return f"it has: {', '.join(fields)}" if fields and is_about_keys else ""


def _plainly(error: Exception) -> str:
    words = str(error)
    return f"{words[:1].lower()}{words[1:]}".removesuffix(" - at `$`")


def _schema(given: Any) -> dict[str, Any]:
    if isinstance(given, dict) and given:
        return given
    if not isinstance(given, str):
        raise ConfigError("the scorer json_schema needs a schema: the name of its file, or itself", _WAY_OUT)
    try:
        found = msgspec.json.decode(Path(given).read_bytes())
    except OSError as error:
        raise ConfigError(f"the schema {given} can't be read: {error.strerror or error}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise ConfigError(f"the schema {given} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"the schema {given} is not a JSON object")
    return found


def _imported(place: Any) -> Any:
    """Return what ``module:name`` names; modules of the working directory are found too, after all others."""
    module, _, name = str(place).partition(":")
    if not isinstance(place, str) or not module or not name:
        raise ConfigError(f"the scorer python names no callable: {place}", "name it as MODULE:FUNCTION")
    here = str(Path.cwd())
    sys.path.append(here)
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"the scorer {place} can't be imported: {error}") from error
    finally:
        sys.path.remove(here)
    return getattr(found, "score", found) if not isinstance(found, type) else found
