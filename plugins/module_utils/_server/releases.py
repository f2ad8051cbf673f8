# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""The order of the releases, and apt's sources: those of the distribution, and how they name the next release."""

import re
import typing as t

Release = t.Tuple[str, str]

#: Each distribution's releases from the oldest to the newest, and their names in apt's sources. Only LTS of Ubuntu.
CODENAMES: t.Dict[str, t.Dict[str, str]] = {
    "debian": {"11": "bullseye", "12": "bookworm", "13": "trixie"},
    "ubuntu": {"18.04": "bionic", "20.04": "focal", "22.04": "jammy", "24.04": "noble", "26.04": "resolute"},
}

#: Names that mean another release as time goes on, so nobody can say which one is installed by them.
_MOVING = ("stable", "oldstable", "oldoldstable", "testing")

_ONE_LINE = re.compile(r"^(?P<head>\s*deb(?:-src)?\s+(?:\[[^]]*\]\s+)?)(?P<uri>\S+)\s+(?P<suite>\S+)(?P<rest>.*)$")


class Source(t.NamedTuple):
    """A repository in apt's sources."""

    file: str
    uri: str
    suite: str


def following(release: Release) -> t.Optional[str]:
    """The release after this one; None after the newest, and for an unknown one."""
    versions = list(CODENAMES.get(release[0], {}))
    after = versions[versions.index(release[1]) + 1 :] if release[1] in versions else []
    return after[0] if after else None


def parse_sources(file: str, text: str) -> t.List[Source]:
    """The active repositories in a file of either format, the older one-line style and deb822 (NAME.sources)."""
    if not file.endswith(".sources"):
        found = [_ONE_LINE.match(line) for line in text.splitlines()]
        return [Source(file, one.group("uri"), one.group("suite")) for one in found if one]
    sources = []
    for paragraph in _paragraphs(text):
        fields = _fields(paragraph)
        if fields.get("enabled", "yes").lower() not in ("no", "false", "0"):
            uris, suites = (fields.get(name, "").split() for name in ("uris", "suites"))
            sources += [Source(file, uri, suite) for uri in uris for suite in suites]
    return sources


def _paragraphs(text: str) -> t.List[str]:
    return [part for part in re.split(r"\n[ \t]*\n", text) if part.strip()]


def _fields(paragraph: str) -> t.Dict[str, str]:
    unfolded = re.sub(r"^#.*\n?", "", paragraph, flags=re.MULTILINE)
    unfolded = re.sub(r"\n[ \t]+", " ", unfolded)
    return {name.lower(): value.strip() for name, value in re.findall(r"^([\w-]+):(.*)$", unfolded, re.MULTILINE)}


def parse_origins(text: str) -> t.Dict[str, str]:
    """The answer of `apt-get indextargets --format '$(REPO_URI) $(ORIGIN)'`: address -> who publishes it."""
    pairs = (line.partition(" ") for line in text.splitlines())
    return {uri.rstrip("/"): origin for uri, _blank, origin in pairs}


def is_own(source: Source, release: Release, origins: t.Mapping[str, str]) -> bool:
    """Whether the distribution itself publishes the repository, and the source names its release."""
    origin = origins.get(source.uri.rstrip("/"), "")
    return origin.split()[:1] == [release[0].capitalize()] and names(source.suite, CODENAMES[release[0]][release[1]])


def names(suite: str, codename: str) -> bool:
    return suite == codename or suite.startswith(codename + "-")


def moving(sources: t.Iterable[Source]) -> t.List[Source]:
    return [one for one in sources if one.suite.partition("-")[0] in _MOVING]


def rewritten(file: str, text: str, old: str, new: str, own: t.Container[str]) -> str:
    """The text with the next release's name in the distribution's own entries. ``own``: their addresses.

    From Debian 12 on, firmware has an area of its own, so a source with non-free gets non-free-firmware, too.
    """

    def suite(word: str) -> str:
        return new + word[len(old) :] if names(word, old) else word

    def areas(words: str) -> str:
        has = words.split()
        more = new == "bookworm" and "non-free" in has and "non-free-firmware" not in has
        return words.rstrip() + " non-free-firmware" if more else words

    if file.endswith(".sources"):
        return _rewritten_deb822(text, suite, areas, own)
    lines = []
    for line in text.splitlines(keepends=True):
        found = _ONE_LINE.match(line)
        if found and found.group("uri") in own and suite(found.group("suite")) != found.group("suite"):
            words, hash_sign, comment = found.group("rest").partition("#")
            rest = areas(words).rstrip() + (" " + hash_sign if hash_sign else "") + comment
            line = "%s%s %s%s\n" % (found.group("head"), found.group("uri"), suite(found.group("suite")), rest)
        lines.append(line)
    return "".join(lines)


def _rewritten_deb822(
    text: str, suite: t.Callable[[str], str], areas: t.Callable[[str], str], own: t.Container[str]
) -> str:
    def value(change: t.Callable[[str], str]) -> t.Callable[[t.Match[str]], str]:
        return lambda found: found.group(1) + change(found.group(2))

    def suites(words: str) -> str:
        return re.sub(r"\S+", lambda word: suite(word.group()), words)

    parts = re.split(r"(\n[ \t]*\n)", text)
    for index, part in enumerate(parts):
        uris = _fields(part).get("uris", "").split()
        if uris and all(uri in own for uri in uris):
            changed = re.sub(r"(?im)^(Suites:)((?:.*)(?:\n[ \t]+.*)*)", value(suites), part)
            if changed != part:
                changed = re.sub(r"(?im)^(Components:)(.*)$", value(areas), changed)
            parts[index] = changed
    return "".join(parts)


class Need(t.NamedTuple):
    """What apt says of an upgrade before it makes it. Sizes in bytes."""

    download: int
    disk: int
    removed: t.List[str]


_UNITS = {"B": 1, "kB": 1000, "MB": 1000**2, "GB": 1000**3}


def parse_need(text: str) -> Need:
    """The output of `apt-get full-upgrade --assume-no`."""

    def size(pattern: str) -> int:
        found = re.search(pattern, text)
        return int(float(found.group(1).replace(",", "")) * _UNITS[found.group(2)]) if found else 0

    download = size(r"Need to get (?:[\d.,]+ \w+/)?([\d.,]+) (\w+) of archives")
    disk = size(r"After this operation, ([\d.,]+) (\w+) of additional disk space")
    removed = re.search(r"packages will be REMOVED:\n((?:  .*\n)*)", text)
    return Need(download, disk, removed.group(1).split() if removed else [])


def parse_unknown(said: str) -> t.List[str]:
    """Complaints of postconf(1) and doveconf(1), without the names of their files, each once."""
    found = []
    for line in said.splitlines():
        text = re.sub(r"^\S*(postconf|doveconf|postfix)(\[\d+\])?: ", "", line.strip())
        text = re.sub(r"^(warning|fatal|Fatal|Error|error): ", "", text)
        if text and text not in found:
            found.append(text)
    return found


def line_number(said: str) -> t.Optional[int]:
    """The line of dovecot.conf that doveconf(1) complains of."""
    found = re.search(r"\bline (\d+)\b", said)
    return int(found.group(1)) if found else None


def block(lines: t.Sequence[str], first: int) -> t.List[int]:
    """The lines of the setting or block that begins here, by their index."""
    depth = 0
    for index in range(first, len(lines)):
        text = lines[index].partition("#")[0]
        depth += text.count("{") - text.count("}")
        if depth <= 0:
            return list(range(first, index + 1))
    return list(range(first, len(lines)))
