"""Which field of a record says the session it is of: requests of one go to one node."""

from __future__ import annotations

from typing import Any, NoReturn

import msgspec

from loadgen.dataset.sample import Sample
from loadgen.dataset.target import MISSING, look_up
from loadgen.errors import DatasetError
from loadgen.speech import option

SESSIONS = ("session", "session_id", "conversation_id", "conversation", "user", "user_id")
"""Where a session is looked for when no field is named; the first that the first record has as a name or a number."""


class Sessions(msgspec.Struct, frozen=True):
    """What samples get for their requests to be kept together.

    Args:
        field: The field of the session, or a path into nested ones; None looks for `SESSIONS`.
    """

    field: str | None = None


class SessionMapping:
    """Finds the sessions of a file's records, all in the field that was named or that the first record showed.

    Args:
        name: What errors call the file.
        sessions: What is looked for.
    """

    def __init__(self, name: str, sessions: Sessions) -> None:
        self._name = name
        self._field = sessions.field

    def fill(self, sample: Sample, record: object, where: str) -> Sample:
        """Return a sample with its session.

        Args:
            sample: Made of the record.
            record: A decoded JSON value, or a row of a table.
            where: The record's place, such as ``line 17``, for errors.
        Raises:
            DatasetError: If the record has no session: every one must.
        """
        fields = record if isinstance(record, dict) else {}
        if self._field is None:
            self._field = next((name for name in SESSIONS if _named(fields.get(name))), None)
        session = MISSING if self._field is None else look_up(fields, self._field)
        if not _named(session):
            self._fail(fields, where)
        return msgspec.structs.replace(sample, session=str(session))

    def _fail(self, fields: dict[str, Any], where: str) -> NoReturn:
        wanted = f'no session in field "{self._field}"' if self._field is not None else "no field that names a session"
        names = ", ".join(str(name) for name in fields) or "none"
        raise DatasetError(
            f"{wanted} of {self._name}, {where} (fields: {names})",
            f"name the one that all requests of a session share: {option('session_field', 'NAME')}; "
            "or balance in another way",
        )


def _named(value: Any) -> bool:
    """Return whether a value can name a session: a text that isn't blank, or a whole number."""
    return bool(value.strip()) if isinstance(value, str) else isinstance(value, int) and not isinstance(value, bool)
