# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the controller and on the server: Python 3.6 and the standard library only.

"""Collect all problems in the user's data, to report them at once."""

import typing as t

#: Longer lists are truncated: a file may have a problem in each of a hundred thousand lines.
SHOWN_PROBLEMS = 50

#: Reports a problem: the place in the variable or file, and the mistake there.
Say = t.Callable[[str, str], None]


class Problems:
    """``variables``: the variables behind the options, if their names differ from the options' names."""

    def __init__(self, variables: t.Optional[t.Mapping[str, str]] = None) -> None:
        self._variables = variables or {}
        # a dict for its order: the same postmaster would be wrong for each domain
        self._found = {}  # type: t.Dict[str, None]

    def name(self, option: str) -> str:
        """The user's name for an option."""
        return self._variables.get(option, option)

    def say(self, where: str, what: str) -> None:
        self._found["%s: %s" % (where, what)] = None

    def all(self) -> t.List[str]:
        return list(self._found)


def as_message(found: t.Sequence[str]) -> str:
    """The problems in one message."""
    more = len(found) - SHOWN_PROBLEMS
    return "\n".join(found[:SHOWN_PROBLEMS]) + ("\nand %d more" % more if more > 0 else "")
