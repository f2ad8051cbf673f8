# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""The interface of a daemon. The engine knows no daemon by name: callers pass them in, described by plain data."""

import time
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import ProofError
from ansible_collections.port587.mail.plugins.module_utils._transaction.tree import File, Problem
from ansible_collections.port587.mail.plugins.module_utils._transaction.view import View

#: Seconds within which a daemon must be up after a start or reload. At first the old processes may still answer.
DEADLINE = 20.0

#: Seconds that a daemon without proofs has to stay up: one with a broken configuration ends at once.
STAYS_UP = 1.0

#: From this a later run makes the daemon of a transaction again: a dictionary that JSON can hold.
Description = t.Dict[str, t.Any]


class Daemon:
    """A daemon that reads the files of a transaction. Implementations are in _daemons/."""

    name = ""
    description = {}  # type: Description

    def installed(self) -> bool:
        raise NotImplementedError

    def running(self) -> bool:
        raise NotImplementedError

    def enabled(self) -> bool:
        raise NotImplementedError

    def validate(self, view: View) -> t.List[Problem]:
        raise NotImplementedError

    def in_order(self, files: t.Sequence[File], view: View) -> t.Tuple[t.List[File], str]:
        """The files in an order in which the daemon can load every intermediate state; a warning if there is none."""
        return list(files), ""

    def needs_restart(self, view: View) -> bool:
        raise NotImplementedError

    def enable(self) -> None:
        raise NotImplementedError

    def disable(self) -> None:
        raise NotImplementedError

    def start(self) -> None:
        raise NotImplementedError

    def reload(self) -> None:
        raise NotImplementedError

    def restart(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError

    def prove(self, proof: t.Dict[str, t.Any], patience: float = DEADLINE) -> None:
        """Run the proofs of an activation, within the deadline in seconds. Raises ProofError."""
        raise NotImplementedError

    def serves(self, proof: t.Dict[str, t.Any]) -> bool:
        """Whether it passes its latest proofs now."""
        try:
            self.prove(proof, patience=0)
        except (ProofError, OSError):
            return False
        return True

    def stays_up(self, seconds: float) -> bool:
        """Whether it runs now, and all the time until then."""
        end = time.monotonic() + seconds
        while self.running():
            if time.monotonic() >= end:
                return True
            time.sleep(0.1)
        return False

    def serves_others(self, removed: t.Container[str]) -> bool:
        """Whether it has configuration of others beside the files that are removed, and so must run on."""
        return False

    def complaints_since(self, moment: float) -> t.List[str]:
        """Log lines that mean that the next start would fail, although the daemon answers now."""
        return []

    def words_since(self, moment: float) -> t.List[str]:
        """Warnings and errors that the daemon logged since ``moment`` (seconds since the epoch)."""
        raise NotImplementedError


#: Makes a daemon from its description. Raises TransactionError if it can't.
DaemonOf = t.Callable[[Description], Daemon]


class Activation(t.NamedTuple):
    """A daemon that must load the change, and the proofs that it did."""

    daemon: Daemon
    #: The argument of Daemon.prove().
    proof: t.Dict[str, t.Any] = {}
    #: Whether to keep the proof, so that another transaction (a new certificate) can repeat it.
    remember: bool = True


class State(t.NamedTuple):
    """The state of a daemon before the change."""

    running: bool
    enabled: bool
