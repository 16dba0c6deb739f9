"""Reading a configuration file: YAML or TOML, one mapping of option names to values, and nothing clever in it."""

from pathlib import Path
from typing import Any

from loadgen.errors import ConfigError

_MOST = 1 << 20


def read(path: str) -> dict[str, Any]:
    """Read a configuration file.

    Args:
        path: A file that ends in ``.toml``, ``.yaml`` or ``.yml``.

    Returns:
        Its keys and values, as they stand; keys may use ``-`` or ``_``.

    Raises:
        ConfigError: If it can't be read, isn't YAML or TOML, repeats a key, or uses tags, anchors or aliases.
    """
    ending = Path(path).suffix.lower()
    if ending not in (".toml", ".yaml", ".yml"):
        raise ConfigError(f"{path}: a configuration ends in .yaml, .yml or .toml")
    try:
        with Path(path).open("rb") as file:
            raw = file.read(_MOST + 1)
    except OSError as error:
        raise ConfigError(f"can't read the configuration {path}: {error.strerror or error}") from None
    if len(raw) > _MOST:
        raise ConfigError(f"{path} is larger than 1 MiB, which no configuration is")
    try:
        content = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start})") from None
    try:
        got = _toml(path, content) if ending == ".toml" else _yaml(path, content)
    except RecursionError:
        raise ConfigError(f"{path} is nested too deeply") from None
    if not isinstance(got, dict):
        raise ConfigError(f"{path} does not hold options", "write one option a line, such as rate: 50")
    for name in got:
        if not isinstance(name, str):
            raise ConfigError(f"{path}: {name!r} is not an option's name")
    return {name.replace("-", "_"): value for name, value in _once(path, got).items()}


def _once(path: str, got: dict[str, Any]) -> dict[str, Any]:
    seen: dict[str, str] = {}
    for name in got:
        plain = name.replace("-", "_")
        if plain in seen:
            raise ConfigError(f"{path} gives {seen[plain]} twice (as {name})")
        seen[plain] = name
    return got


def _toml(path: str, content: str) -> Any:
    import tomllib

    try:
        return tomllib.loads(content)
    except ValueError as error:  # what isn't TOML, and a number of more digits than Python reads
        raise ConfigError(f"{path} is not TOML: {error}") from None


def _yaml(path: str, content: str) -> Any:
    import yaml

    try:
        for event in yaml.parse(content, Loader=yaml.SafeLoader):
            _refuse(path, event)
        node = yaml.compose(content, Loader=yaml.SafeLoader)
        return None if node is None else _plain(path, node, yaml.SafeLoader(""))
    except yaml.YAMLError as error:
        is_colon = getattr(error, "problem", None) == "mapping values are not allowed here"
        rules = 'keys of one level begin in one column, and a value that holds a colon stands in quotes: url: "mock:"'
        way_out = rules if is_colon else ""
        raise ConfigError(f"{path} is not YAML: {_words(error)}", way_out) from None


def _refuse(path: str, event: Any) -> None:
    import yaml

    line = event.start_mark.line + 1
    if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
        raise ConfigError(f"{path}, line {line}: anchors and aliases are not allowed", "write the value out")
    if getattr(event, "tag", None):
        raise ConfigError(f"{path}, line {line}: the tag {event.tag} is not allowed", "write a plain value")


def _plain(path: str, node: Any, loader: Any) -> Any:
    import yaml

    if isinstance(node, yaml.MappingNode):
        got: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = _plain(path, key_node, loader)
            line = key_node.start_mark.line + 1
            if isinstance(key, (dict, list)):
                raise ConfigError(f"{path}, line {line}: a key must be a plain word")
            if key in got:
                raise ConfigError(f"{path}, line {line}: {key} is given twice")
            got[key] = _plain(path, value_node, loader)
        return got
    if isinstance(node, yaml.SequenceNode):
        return [_plain(path, item, loader) for item in node.value]
    if node.tag not in _SCALARS:
        return node.value  # dates and base-60 numbers are text here: 1:30 is no number of seconds
    if node.tag == "tag:yaml.org,2002:int" and ":" in node.value:
        return node.value
    try:
        return loader.construct_object(node)
    except ValueError:  # 0x_ looks like a number to YAML alone, and thousands of digits are no number to Python
        line = node.start_mark.line + 1
        raise ConfigError(f"{path}, line {line}: {node.value[:20]} can't be read as a number", "quote text") from None


_SCALARS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null"))


def _words(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else str(problem)
