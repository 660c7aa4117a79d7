"""Where settings come from, and what is said of those that cannot be used."""

import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import SettingsConfigDict
from yaml import MappingNode, Node, YAMLError, compose

from gradwire_server.config.settings import ENV_PREFIX, Settings

CONFIG_VARIABLE = "GRADWIRE_CONFIG"
MISSPELT = 0.9
"""How close a name must be to that of a setting to be taken for it, by `difflib`."""

_Path = tuple[str, ...]


class SettingsError(Exception):
    """A setting that cannot be used; the message is one line for the person who set it."""


def load_settings(config: Path | None = None, **given: Any) -> Settings:
    """Returns the settings in force.

    Args:
        config: A YAML file with settings by name; if none, the one GRADWIRE_CONFIG names.
        given: Settings from the command line; those that are none were not given.

    Raises:
        SettingsError: A setting is wrong, or the file cannot be read.
    """
    path = config or os.environ.get(CONFIG_VARIABLE)
    _check_environment()
    lines = {} if path is None else _read_lines(path)

    class FileSettings(Settings):
        model_config = SettingsConfigDict(yaml_file=path)

    try:
        return FileSettings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        where = _Places(path, lines, given)
        raise SettingsError(
            "; ".join(_describe(dict(each), where) for each in error.errors())
        ) from None
    except (YAMLError, ValueError) as error:
        raise SettingsError(f"config file {path}: {_in_a_line(error)}") from None


def _check_environment() -> None:
    """Refuses variables that are surely meant to be settings, but are none.

    Other variables may begin with GRADWIRE_ too: the SDK has some, and Kubernetes makes some for a
    service of that name.

    Raises:
        SettingsError: There is such a variable.
    """
    for variable in os.environ:
        name = variable.upper().removeprefix(ENV_PREFIX).lower()
        if name == variable.lower() or name in Settings.model_fields:
            continue
        for meant in get_close_matches(name, Settings.model_fields, n=1, cutoff=MISSPELT):
            raise SettingsError(
                f"{variable}: there is no such setting; did you mean {ENV_PREFIX}{meant.upper()}?"
            )


def _read_lines(path: str | Path) -> dict[_Path, int]:
    """Returns the lines of a config file by what they set, such as ``("tenants", "acme")``.

    Raises:
        SettingsError: It cannot be read, or it is no YAML with settings by name.
    """
    try:
        document = compose(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"config file {path}: {error.strerror}") from None
    except (YAMLError, ValueError) as error:
        raise SettingsError(f"config file {path}: {_in_a_line(error)}") from None
    if document is None:
        return {}
    if not isinstance(document, MappingNode):
        raise SettingsError(
            f"config file {path}, line {document.start_mark.line + 1}: expected settings by name, "
            "such as max_sessions: 10"
        )
    lines: dict[_Path, int] = {}
    for place, line in _lines_in(document, ()):
        if place in lines:
            raise SettingsError(
                f"config file {path}, line {line}: {'.'.join(place)}: is there already, in line "
                f"{lines[place]}"
            )
        lines[place] = line
    return lines


def _lines_in(node: Node, above: _Path) -> Iterator[tuple[_Path, int]]:
    if isinstance(node, MappingNode):
        for key, value in node.value:
            place = (*above, str(key.value))
            yield place, key.start_mark.line + 1
            yield from _lines_in(value, place)


class _Places:
    """Tells where settings were set: a line of the file, an option, or a variable.

    Args:
        path: The config file, if there is one.
        lines: Its lines.
        given: The settings from the command line.
    """

    def __init__(
        self, path: str | Path | None, lines: Mapping[_Path, int], given: Mapping[str, Any]
    ) -> None:
        self._path = path
        self._lines = lines
        self._given = given

    def of(self, place: _Path) -> str:
        """Returns where something was set, to be followed by its name; empty if by an option."""
        if self._given.get(place[0]) is not None:
            return ""
        variable = f"{ENV_PREFIX}{place[0].upper()}"
        if variable in map(str.upper, os.environ):
            return f"{variable} in the environment: "
        for length in range(len(place), 0, -1):
            line = self._lines.get(place[:length])
            if line is not None:
                return f"config file {self._path}, line {line}: "
        return ""


def _describe(error: dict[str, Any], places: _Places) -> str:
    """Returns one validation error in words, without the value if it may be secret."""
    place = tuple(str(part) for part in error["loc"])
    text = str(error["msg"]).removeprefix("Value error, ")
    if not place:
        return text
    name = ".".join(place)
    # What a validator of the setting says may begin with what is within it: "acme.max_runs: ...".
    within, colon, _ = text.partition(": ")
    where = places.of((*place, *within.split(".")) if colon and " " not in within else place)
    if error["type"] == "extra_forbidden":
        close = get_close_matches(name, Settings.model_fields, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        return f"{where}{name}: there is no such setting{hint}"
    shown = "" if name == "token" or text.startswith('"') else f" (got {error['input']!r})"
    if colon and " " not in within:
        return f"{where}{name}.{text}"
    return f"{where}{name}: {text}{shown}"


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split())
