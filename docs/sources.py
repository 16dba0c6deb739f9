"""Lets the API pages take the sources as they are: roles become links, and a struct has the signature of its fields.

mkdocs.yml names this file as an extension of griffe, which reads the sources without importing them.
"""

import html
import re
from collections.abc import Iterator
from typing import Any

import griffe

_ROLE = re.compile(r":(?P<kind>attr|class|data|exc|func|meth|mod):`(?P<short>~?)(?P<name>[\w.]+)`")
_TIGHT = re.compile(r"(?<=[^\n])\n(?=(?:Args|Returns|Yields|Raises|Source):\n)")
_STRUCTS = ("Struct", "msgspec.Struct", "NamedTuple", "TypedDict")


class Sources(griffe.Extension):
    """Adds to what griffe has read what only msgspec and Sphinx would know."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Complete a whole package, once all of it has been read.

        Args:
            pkg: The package.
        """
        for obj in _all(pkg):
            if isinstance(obj, griffe.Class) and "__init__" not in obj.members and _is_struct(obj):
                obj.set_member("__init__", _init(obj))
            if obj.docstring is not None:
                spaced = _TIGHT.sub("\n\n", obj.docstring.value)  # griffe wants a blank line above a section
                obj.docstring.value = _ROLE.sub(_linker(obj), spaced)


def _all(obj: griffe.Object) -> Iterator[griffe.Object]:
    yield obj
    for member in obj.members.values():
        if isinstance(member, griffe.Object):
            yield from _all(member)


def _is_struct(cls: griffe.Class) -> bool:
    return any(str(base) in _STRUCTS for base in cls.bases) or any(map(_is_struct, _own_bases(cls)))


def _own_bases(cls: griffe.Class) -> list[griffe.Class]:
    return [base for base in cls.resolved_bases if isinstance(base, griffe.Class)]


def _fields(cls: griffe.Class) -> dict[str, griffe.Attribute]:
    inherited = {name: field for base in _own_bases(cls) for name, field in _fields(base).items()}
    own = {
        name: field
        for name, field in cls.members.items()
        if isinstance(field, griffe.Attribute)
        and field.annotation
        and "property" not in field.labels
        and "ClassVar" not in str(field.annotation)
    }
    return inherited | own


def _init(cls: griffe.Class) -> griffe.Function:
    """Make the constructor of a struct, named tuple or typed dictionary: its annotated fields, in order."""
    kind = griffe.ParameterKind
    is_by_name = str(cls.keywords.get("kw_only")) == "True" or "TypedDict" in map(str, cls.bases)
    by = kind.keyword_only if is_by_name else kind.positional_or_keyword
    fields = [
        griffe.Parameter(name, annotation=field.annotation, kind=by, default=_default(field.value))
        for name, field in _fields(cls).items()
    ]
    first = griffe.Parameter("self", kind=kind.positional_or_keyword)
    return griffe.Function("__init__", parameters=griffe.Parameters(first, *fields), returns="None")


def _default(value: griffe.Expr | str | None) -> griffe.Expr | str | None:
    """Take ``field(default_factory=…)`` for what the factory makes, as a reader would write it."""
    made = re.search(r"default_factory=(\w+)", str(value)) if value is not None else None
    return f"{made[1]}()" if made else value


def _linker(obj: griffe.Object) -> Any:
    def link(role: re.Match[str]) -> str:
        name = role["name"]
        shown = name.rpartition(".")[2] if role["short"] else name
        call = "()" if role["kind"] in {"func", "meth"} else ""
        return f'<autoref optional identifier="{html.escape(_path(obj, name))}"><code>{shown}{call}</code></autoref>'

    return link


def _path(obj: griffe.Object, name: str) -> str:
    """Say where a name leads, from the object outwards: its members, its class's, its module's, or a full path."""
    first, _, rest = name.partition(".")
    place: griffe.Object | None = obj
    while place is not None:
        if first in place.members:
            found = place.members[first]
            return ".".join(filter(None, (found.target_path if found.is_alias else found.path, rest)))
        place = place.parent if not place.is_module else None
    return name
