# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""The daemons under a change: what to do with each, and how to restore its earlier state."""

import typing as t

from ansible_collections.port587.mail.plugins.module_utils._transaction.daemon import STAYS_UP, Daemon, State
from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import ProofError, TransactionError
from ansible_collections.port587.mail.plugins.module_utils._transaction.manifest import Manifest, proof_of
from ansible_collections.port587.mail.plugins.module_utils._transaction.request import Request
from ansible_collections.port587.mail.plugins.module_utils._transaction.view import View


class Affected(t.NamedTuple):
    """The daemons that a change concerns."""

    #: those that read its files
    readers: t.List[Daemon]
    #: those that an earlier run has set up, and that no transaction wants now
    leaving: t.List[Daemon]
    #: the state of each before the change, by name
    was: t.Dict[str, State]
    #: the state of each of these before the first run of this collection
    first: t.Dict[str, State]

    def all(self) -> t.List[t.Tuple[Daemon, State]]:
        return [(daemon, self.was[daemon.name]) for daemon in self.readers + self.leaving]


def affected(
    request: Request,
    recorded: Manifest,
    others: t.Iterable[Manifest],
    record: t.Mapping[str, t.Any],
    before: t.Mapping[str, State],
) -> Affected:
    """``before``: the daemons' states before an interrupted run, which will be restored."""
    readers = [activation.daemon for activation in request.activations]
    needed = {daemon.name for daemon in readers} | {name for one in others for name in one["daemons"]}
    entries = {} if request.keep_others else recorded["daemons"]
    leaving = [request.daemon_of(entries[name]["description"]) for name in sorted(entries) if name not in needed]
    was = {}
    for daemon in readers:
        installed = daemon.installed()
        was[daemon.name] = State(installed and daemon.running(), installed and daemon.enabled())
    for daemon in leaving:
        was[daemon.name] = State(daemon.running(), daemon.enabled())
    was.update((name, state) for name, state in before.items() if name in was)
    first = {daemon.name: State(*record["daemons"].get(daemon.name, (False, False))) for daemon in leaving}
    return Affected(readers, leaving, was, first)


def plan(daemons: Affected, changed: bool, view: View, state_directory: str) -> t.Dict[str, str]:
    """The action for each daemon: started, reloaded, restarted or stopped. Daemons that need none are left out.

    ``changed``: whether there are files to change or to remove.
    """
    planned = {}
    for daemon in daemons.readers:
        was = daemons.was[daemon.name]
        if not was.running:
            planned[daemon.name] = "started"
        elif changed:
            # a reload would not revive a process that died of a change by hand
            restart = daemon.needs_restart(view) or not daemon.serves(proof_of(daemon.name, state_directory))
            planned[daemon.name] = "restarted" if restart else "reloaded"
        elif not was.enabled:
            planned[daemon.name] = "enabled"
    for daemon in daemons.leaving:
        # it runs on for others, if it ran before this collection or has got their files since
        shared = daemons.was[daemon.name].running and daemon.serves_others(view.removed)
        if daemons.first[daemon.name].running or shared:
            planned[daemon.name] = "restarted"
        elif any(daemons.was[daemon.name]):
            planned[daemon.name] = "stopped"
    return planned


def activate(daemon: Daemon, was: State, how: t.Optional[str]) -> None:
    """``how``: an action of plan(); None if there is none."""
    if how and not was.enabled:
        daemon.enable()
    if how == "started":
        daemon.start()
    elif how == "restarted":
        daemon.restart()
    elif how == "reloaded":
        daemon.reload()


def leave(daemon: Daemon, first: State) -> None:
    """Restart a daemon for others, on the files that are left. Raises ProofError if it does not stay up."""
    daemon.restart()
    if not daemon.stays_up(STAYS_UP):
        raise ProofError("%s does not run on without the files of this collection" % daemon.name)
    if first.running and not first.enabled:
        daemon.disable()


def put_back(daemon: Daemon, was: State, state_directory: str) -> str:
    """Restore a daemon's state, on the previous files. Returns a description of the result."""
    try:
        if was.running:
            # a reload would not revive a process that the bad files have ended
            daemon.restart()
            # the earlier proofs: the new ones may need the new files
            daemon.prove(proof_of(daemon.name, state_directory))
            state = "%s runs on as before" % daemon.name
        else:
            daemon.stop()
            state = "%s is stopped, as it was before" % daemon.name
        if was.enabled and not daemon.enabled():
            daemon.enable()
        if not was.enabled and daemon.enabled():
            daemon.disable()
        return state
    except (ProofError, TransactionError) as exc:
        return "%s does not answer as it should on the previous files either (%s)" % (daemon.name, exc)
