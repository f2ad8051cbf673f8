# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""What a transaction asks of a daemon. It knows none by name: they are handed in, and described by plain data."""

import typing as t

from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import ProofError
from ansible_collections.port587.mail.plugins.module_utils._transaction.tree import File, Problem
from ansible_collections.port587.mail.plugins.module_utils._transaction.view import View

#: Seconds until a daemon that was just started or reloaded has to be up. The old processes may still answer at first.
DEADLINE = 20.0

#: What the daemon of a transaction is made of again later: a dictionary that JSON can hold.
Description = t.Dict[str, t.Any]


class Daemon:
    """A daemon that reads the files of a transaction. _daemons/ has those there are."""

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
        """The files in an order in which the daemon can load each state on the way; what to say if there is none."""
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
        """Prove what an activation asks for, see there, within so many seconds. Raises ProofError."""
        raise NotImplementedError

    def serves(self, proof: t.Dict[str, t.Any]) -> bool:
        """Whether it does now what it was proved by last."""
        try:
            self.prove(proof, patience=0)
        except (ProofError, OSError):
            return False
        return True

    def complaints_since(self, moment: float) -> t.List[str]:
        """What it logged that means that the next start would fail, although it answers."""
        return []

    def words_since(self, moment: float) -> t.List[str]:
        """What the daemon logged of warnings and errors since ``moment`` (seconds since the epoch)."""
        raise NotImplementedError


#: Makes a daemon of its description. Raises TransactionError where it can't.
DaemonOf = t.Callable[[Description], Daemon]


class Activation(t.NamedTuple):
    """A daemon that has to take over the change, and what proves that it did."""

    daemon: Daemon
    #: What Daemon.prove() is given.
    proof: t.Dict[str, t.Any] = {}
    #: Whether the proof is kept, so that another transaction (a new certificate) can ask the same of the daemon.
    remember: bool = True


class State(t.NamedTuple):
    """What a daemon did before the change."""

    running: bool
    enabled: bool
