"""JSON schema: whether an answer is JSON of the shape that was asked for."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from loadgen.dataset import Sample
from loadgen.errors import ConfigError
from loadgen.session.scoring.score import BuiltIn, Score

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

_FENCE = re.compile(r"```[^\n`]*\n(.*?)```", re.DOTALL)
_SHOWN = 200


class JsonSchema(BuiltIn, frozen=True, dict=True):
    """Scores 1 where an answer is JSON that keeps to a schema, else 0. It takes no target.

    The JSON is the whole answer, or what stands in its last fenced block. An answer without any is wrong, not
    unscored: JSON is what it was asked for. References within the schema are followed; nothing is fetched.

    Args:
        schema: The schema; Draft 2020-12 unless its ``$schema`` names another one.
    """

    name: ClassVar[str] = "json_schema"
    needs: ClassVar[str] = "nothing"
    schema: dict[str, Any]

    def __post_init__(self) -> None:
        from_library = self._library()
        try:
            from_library.validators.validator_for(self.schema).check_schema(self.schema)
        except from_library.SchemaError as error:
            raise ValueError(f"the schema is not a JSON schema: {error.message}") from None

    @staticmethod
    def _library() -> Any:
        try:
            import jsonschema
        except ImportError:
            raise ConfigError(
                "scoring by a JSON schema needs the package jsonschema", "pip install 'loadgen[accuracy]'"
            ) from None
        return jsonschema

    @property
    def words(self) -> str:
        """What it does, in words."""
        return "JSON schema"

    @cached_property
    def _validator(self) -> Validator:
        from referencing.jsonschema import EMPTY_REGISTRY

        library = self._library()
        made: Validator = library.validators.validator_for(self.schema, default=library.Draft202012Validator)(
            self.schema, registry=EMPTY_REGISTRY
        )
        return made

    def score(self, answer: str, target: Any, sample: Sample) -> Score:  # noqa: ARG002
        """Score an answer."""
        fenced = _FENCE.findall(answer)
        for text in (answer, *fenced[-1:]):
            try:
                value = msgspec.json.decode(text.strip())
            except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
                continue
            try:
                error = next(self._validator.iter_errors(value), None)
            except RecursionError:
                return Score(None, note="nested too deep to check")
            shown = text.strip()[:_SHOWN]
            if error is None:
                return Score(1.0, extracted=shown)
            return Score(0.0, extracted=shown, note=f"{error.json_path}: {error.message}"[:_SHOWN])
        return Score(0.0, note="not JSON")
