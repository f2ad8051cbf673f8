# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Parser of nginx's configuration: its servers, with their ports and names.

It reads the output of `nginx -T` by nginx's own grammar, since a directive may be anywhere on a line, and in an
included file.
"""

import fnmatch
import re
import typing as t

#: The line before each file in the output.
_FILE = re.compile(r"^# configuration file (.*):$", re.MULTILINE)

#: A comment or a quote starts only where a word could; inside a word both are plain characters. "${" opens no block.
_TOKEN = re.compile(
    r"""\s+ | \#[^\n]*
    | (?P<mark>[;{}])
    | "(?P<double>(?:\\.|[^"\\])*)"
    | '(?P<single>(?:\\.|[^'\\])*)'
    | (?P<word>(?:\\.|\$\{|[^\s;{\\])+)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPED = re.compile(r"""\\([\\"' trn])""")
_MEANING = {"t": "\t", "r": "\r", "n": "\n"}

#: The blocks that contain TCP servers.
_PROTOCOLS = ("http", "stream", "mail")


class Directive(t.NamedTuple):
    words: t.List[str]
    block: t.Optional[t.List[t.Any]]  # the directives inside, None where it ends with a semicolon


class Server(t.NamedTuple):
    file: str  # where it begins
    ports: t.Set[int]  # on all addresses
    addressed: t.Set[int]  # on some addresses only
    names: t.List[str]


def parse(text: str) -> t.List[Directive]:
    """The directives of a file. It never fails: syntax that nginx would refuse is left out."""
    found: t.List[Directive] = []
    open_blocks = [found]
    words: t.List[str] = []
    for token in _TOKEN.finditer(text):
        mark = token.group("mark")
        if mark is None:
            words += [_plain(part) for part in token.group("double", "single", "word") if part is not None]
        elif mark == "}":
            words = []
            if len(open_blocks) > 1:
                open_blocks.pop()
        elif words:
            block: t.Optional[t.List[Directive]] = [] if mark == "{" else None
            open_blocks[-1].append(Directive(words, block))
            words = []
            if block is not None:
                open_blocks.append(block)
    return found


def _plain(text: str) -> str:
    return _ESCAPED.sub(lambda escaped: _MEANING.get(escaped.group(1), escaped.group(1)), text)


def servers(dump: str) -> t.List[Server]:
    """The servers in the output of `nginx -T`."""
    parts = _FILE.split(dump)
    files = {path: parse(text) for path, text in zip(parts[1::2], parts[2::2])}
    if not files:
        return []
    main = parts[1]
    found = []
    for _file, protocol in _contents(files, main, files[main]):
        if protocol.words[0] in _PROTOCOLS:
            for file, one in _contents(files, main, protocol.block or []):
                if one.words[0] == "server" and one.block is not None:
                    inside = [directive for _file, directive in _contents(files, main, one.block)]
                    found.append(_server(file, protocol.words[0], inside))
    return found


def ports(dump: str) -> t.Set[int]:
    """The ports that nginx listens on, on any address."""
    return {port for server in servers(dump) for port in server.ports | server.addressed}


def listens(directives: t.Iterable[Directive]) -> t.List[t.List[str]]:
    """The value of every `listen` in a file, in any block."""
    found = []
    for one in directives:
        if one.words[0] == "listen" and one.block is None and len(one.words) > 1:
            found.append(one.words[1:])
        found += listens(one.block or [])
    return found


def listen(value: str) -> t.Tuple[str, int, int]:
    """(address, empty for all of them; first and last port) of "80", "*:80", "localhost", "192.0.2.1:80-90"."""
    found = re.match(r"(?:(.*):)?(\d{1,5})(?:-(\d{1,5}))?\Z", value)
    address, first, last = found.groups() if found else (value, "80", None)
    return ("" if address in (None, "*", "0.0.0.0", "[::]") else address), int(first), int(last or first)


Files = t.Dict[str, t.List[Directive]]


def _contents(
    files: Files, file: str, directives: t.Iterable[Directive], within: t.Tuple[str, ...] = ()
) -> t.Iterator[t.Tuple[str, Directive]]:
    """The directives, with each include replaced by the directives of its files."""
    for one in directives:
        if one.words[0] != "include" or len(one.words) != 2:
            yield file, one
            continue
        main = list(files)[0]
        # relative to the directory of the main file
        pattern = one.words[1] if one.words[1].startswith("/") else main.rpartition("/")[0] + "/" + one.words[1]
        for path in files:
            if path not in within and path.count("/") == pattern.count("/") and fnmatch.fnmatchcase(path, pattern):
                yield from _contents(files, path, files[path], (*within, path))


def _server(file: str, protocol: str, inside: t.Sequence[Directive]) -> Server:
    ports: t.Set[int] = set()
    addressed: t.Set[int] = set()
    names: t.List[str] = []
    listens = [one.words for one in inside if one.words[0] == "listen" and len(one.words) > 1]
    for words in listens:
        address, first, last = listen(words[1])
        if not {"udp", "quic"} & set(words) and not address.startswith("unix"):
            (addressed if address else ports).update(range(first, min(last, 65535) + 1))
    if not listens and protocol == "http":
        ports.add(80)
    for one in inside:
        if one.words[0] == "server_name":
            names += one.words[1:]
    return Server(file, ports, addressed, names)
