# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Read accounts on the controller: from variables, and from a file, entry by entry.

The file is CSV or YAML. A hundred thousand entries are never all in memory at once.

Each entry comes with its place, the file's name and a line number. Unreadable parts are reported with their place, and
reading continues where that makes sense. No message repeats a value that may be a password.
"""

from __future__ import annotations

import codecs
import csv
import datetime
import os
import typing as t

import yaml
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.inventory.manager import IGNORED
from ansible.plugins.action import ActionBase
from ansible_collections.port587.mail.plugins.module_utils._accounts import read
from ansible_collections.port587.mail.plugins.module_utils._accounts.problems import Say, as_message
from ansible_collections.port587.mail.plugins.module_utils._accounts.read import ACCOUNT_KEYS
from ansible_collections.port587.mail.plugins.module_utils._wire.limits import DEEPEST_ACCOUNT, LONGEST_ACCOUNT

#: A cell of these columns holds several addresses, separated by blanks.
LISTS = ("aliases", "senders")
#: The keys that a cell can't hold.
NESTED = ("app_passwords",)
COLUMNS = tuple(key for key in ACCOUNT_KEYS if key not in NESTED)
SCALARS = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("str", "null", "bool", "int", "float"))
ENDINGS = (".csv", ".yml", ".yaml")

Entry = t.Tuple[str, t.Any]


def plain(value: t.Any) -> t.Any:
    """Convert to plain YAML types: a single encrypted value (`!vault`) has a type of Ansible's."""
    if isinstance(value, dict):
        return {plain(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, datetime.date):
        # an unquoted day in YAML
        return value.isoformat()
    return str(value) if type(value).__name__ in ("AnsibleVaultEncryptedUnicode", "EncryptedString") else value


def problems(action: ActionBase, value: t.Callable[[str], t.Any]) -> t.Iterator[str]:
    """Mistakes in the variables of role accounts, and in the file that they name."""
    try:
        file = find(action, value("accounts_file"), value("ansible_inventory_sources"))
    except AnsibleActionFail as error:
        yield str(error)
        return
    broken: list[str] = []
    more = entries(*file, lambda where, what: broken.append(f"{where}: {what}")) if file else iter(())
    data = {name: plain(value(f"accounts_{name}")) for name in read.OPTIONS}
    found = read.read(**data, more=more, variables=value("__accounts_variables"))[1]
    # an account that is missing because its line can't be read is not another mistake
    if broken or found:
        yield as_message(broken or found)


def find(
    action: ActionBase, name: t.Any, inventories: t.Any, variable: str = "accounts_file"
) -> tuple[str, str] | None:
    """The file to read, decrypted if it is in a vault, and its name for messages. ``variable``: what has the path."""
    if not name:
        return None
    problem = problem_of_name(str(name), variable)
    if problem:
        raise AnsibleActionFail(problem)
    try:
        path = action._find_needle("files", str(name))
        problem = problem_of_place(path, inventories or [], variable)
        if problem:
            raise AnsibleActionFail(problem)
        return action._loader.get_real_file(path), os.path.basename(path)
    except AnsibleActionFail:
        raise
    except AnsibleError as error:
        raise AnsibleActionFail(f"{variable}: {error}") from error


def problem_of_name(path: str, variable: str = "accounts_file") -> str | None:
    if os.path.splitext(path)[1].lower() in ENDINGS:
        return None
    return f"{variable}: {os.path.basename(path)!r} ends with neither {', '.join(ENDINGS)}, which says how to read it"


def problem_of_place(path: str, inventories: t.Iterable[str], variable: str = "accounts_file") -> str | None:
    """Refuse a file in an inventory directory: Ansible would read it as an inventory before any play begins."""
    for inventory in map(os.path.realpath, inventories):
        inside = os.path.relpath(os.path.realpath(path), inventory)
        parts = [] if inside == "." else inside.split(os.sep)
        if parts[:1] != [os.pardir] and not any(IGNORED.search(part.encode()) for part in parts):
            return (
                f"{variable}: {path!r} is part of the inventory {inventory!r}. Ansible takes each of its lines for "
                "the name of a host, and has possibly printed passwords already, in the warnings above. Move it out of "
                "there, to ~/port587/ say, and change what has been shown"
            )
    return None


def entries(path: str, name: str, say: Say, keys: t.Sequence[str] = COLUMNS) -> t.Iterator[Entry]:
    """The accounts in a file, with their places. ``name``: the file's name in messages; ``keys``: columns of CSV."""
    try:
        yield from _read(path, name, say, keys)
    except _Unreadable as error:
        # the next lines would be wrong, too, and a skipped one would shift the others
        say(*error.args)


class _Unreadable(Exception):
    """An error after which reading can't continue: the place, and the mistake there."""


def _read(path: str, name: str, say: Say, keys: t.Sequence[str]) -> t.Iterator[Entry]:
    with open(path, "rb") as handle:
        lines = _lines(handle, name)
        yield from _csv(lines, name, say, keys) if name.lower().endswith(".csv") else _yaml(lines, name, say)


def _lines(handle: t.BinaryIO, name: str) -> t.Iterator[str]:
    for number, raw in enumerate(iter(lambda: handle.readline(LONGEST_ACCOUNT + 1), b""), 1):
        if len(raw) > LONGEST_ACCOUNT:
            raise _Unreadable(
                f"{name} line {number}", f"has more than {LONGEST_ACCOUNT} bytes; no account is that long"
            )
        # Excel writes a byte order mark into UTF-8 files
        line = raw[len(codecs.BOM_UTF8) :] if number == 1 and raw.startswith(codecs.BOM_UTF8) else raw
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError as error:
            wrong = f"the byte 0x{line[error.start]:02x} is no part of any letter"
            raise _Unreadable(f"{name} line {number}", f"is not UTF-8: {wrong}; save the file as UTF-8") from error


# -- CSV ----------------------------------------------------------------------------------------------------------


def _csv(lines: t.Iterator[str], name: str, say: Say, keys: t.Sequence[str]) -> t.Iterator[Entry]:
    columns: list[str] = []
    for number, line in enumerate(lines, 1):
        where = f"{name} line {number}"
        # line by line, so that a quotation mark that is never closed does not swallow the rest of the file
        try:
            cells = next(csv.reader([line.rstrip("\r\n")], strict=True), [])
        except csv.Error as error:
            say(
                where,
                f"is not CSV ({error}); a cell with a comma stands in quotation marks, and those in it are doubled",
            )
            continue
        if not columns:
            columns = [cell.strip().lower() for cell in cells]
            wrong = _wrong_columns(columns, keys)
            if wrong:
                say(where, wrong)
                return
        elif len(cells) == len(columns):
            yield where, {column: _cell(column, cell) for column, cell in zip(columns, cells) if cell}
        elif cells:
            say(
                where,
                f"has {_count(len(cells))}, and line 1 names {len(columns)}; "
                "a cell with a comma stands in quotation marks",
            )
    if not columns:
        say(name, "is empty; its first line has to name the columns, as in address,password")


def _cell(column: str, cell: str) -> t.Any:
    return cell.split() if column in LISTS else cell


def _count(cells: int) -> str:
    return "1 cell" if cells == 1 else f"{cells} cells"


def _wrong_columns(columns: list[str], keys: t.Sequence[str]) -> str | None:
    unknown = [column for column in columns if column not in keys]
    if "address" not in columns and (len(unknown) == len(columns) or ";" in columns[0]):
        hint = "; there has to be a comma between them" if len(columns) == 1 and ";" in columns[0] else ""
        # not shown: without a header, this line holds personal data
        return f"does not name the columns{hint}; write a first line such as {','.join(keys[:2])}"
    nested = [column for column in unknown if column in NESTED]
    if nested:
        return f"names a column {nested[0]}, which is a list of mappings; a YAML file can hold it"
    if unknown:
        return f"names an unknown column {unknown[0][:40]!r}; there are: {', '.join(keys)}"
    if len(set(columns)) < len(columns):
        return "names a column twice"
    return None if "address" in columns else "has no column address"


# -- YAML ---------------------------------------------------------------------------------------------------------


class _Text:
    """Lines as a file object, which the parser needs."""

    def __init__(self, lines: t.Iterator[str], name: str) -> None:
        self._lines = lines
        self._name = name
        self._number = 0
        #: Bytes since the last account.
        self.size = 0

    def read(self, _size: int = -1) -> bytes:
        line = next(self._lines, "").encode("utf-8")
        self._number += 1
        self.size += len(line)
        # the parser reads ahead
        if self.size > 2 * LONGEST_ACCOUNT:
            wrong = f"belongs to an account that has more than {LONGEST_ACCOUNT} bytes already"
            raise _Unreadable(f"{self._name} line {self._number}", wrong)
        return line


class _Broken(Exception):
    """YAML that this reader refuses."""

    def __init__(self, mark: t.Any, what: str) -> None:
        super().__init__(what)
        self.mark = mark


def _yaml(lines: t.Iterator[str], name: str, say: Say) -> t.Iterator[Entry]:
    """A list of mappings, from the parser's events, since its loader would keep all of them in memory."""
    kind_of_loader: t.Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    text = _Text(lines, name)
    loader = kind_of_loader(text)
    try:
        for kind in (yaml.StreamStartEvent, yaml.DocumentStartEvent, yaml.SequenceStartEvent):
            event = loader.get_event()
            if not isinstance(event, kind):
                raise _Broken(
                    event.start_mark, "is no list of accounts; write - {address: eve@example.com, password: ...}"
                )
        while not loader.check_event(yaml.SequenceEndEvent):
            mark = loader.peek_event().start_mark
            node = _node(loader)
            text.size = 0
            yield f"{name} line {mark.line + 1}", loader.construct_document(node)
    except _Broken as error:
        say(f"{name} line {error.mark.line + 1}", str(error))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" line {mark.line + 1}" if mark else ""
        say(name + place, f"is not YAML: {error.problem or error.context}")
    except (yaml.YAMLError, ValueError):
        say(name, "is not YAML: it holds a character or a number that YAML does not allow")
    finally:
        loader.dispose()


def _node(loader: t.Any, depth: int = 0) -> yaml.Node:
    event = loader.get_event()
    marks = event.start_mark, event.end_mark
    if depth > DEEPEST_ACCOUNT:
        raise _Broken(event.start_mark, "has lists or mappings too deep in each other")
    if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
        raise _Broken(event.start_mark, "has an anchor or a reference to one; write the value itself")
    if getattr(event, "tag", None):
        raise _Broken(event.start_mark, f"has the tag {event.tag}; a file can only be encrypted as a whole")
    if isinstance(event, yaml.ScalarEvent):
        tag = loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        # such as a date: no value of an account is a date, but a password may look like one
        tag = tag if tag in SCALARS else "tag:yaml.org,2002:str"
        return yaml.ScalarNode(tag, event.value, *marks)
    if isinstance(event, yaml.SequenceStartEvent):
        items = []
        while not loader.check_event(yaml.SequenceEndEvent):
            items.append(_node(loader, depth + 1))
        loader.get_event()
        return yaml.SequenceNode("tag:yaml.org,2002:seq", items, *marks)
    pairs: dict[str, tuple[yaml.Node, yaml.Node]] = {}
    while not loader.check_event(yaml.MappingEndEvent):
        key = _node(loader, depth + 1)
        if key.value in pairs if isinstance(key.value, str) else True:
            raise _Broken(key.start_mark, "has a key twice, or one that is no text")
        pairs[key.value] = (key, _node(loader, depth + 1))
    loader.get_event()
    return yaml.MappingNode("tag:yaml.org,2002:map", list(pairs.values()), *marks)
