# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the controller and on the server: Python 3.6 and the standard library only.

"""What systemd denies a service, per version of systemd (systemd.exec(5))."""

import functools
import os
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._transaction.commands import run_command

Value = t.Union[bool, str, t.Sequence[str]]

#: Denied to every service. A service that needs one of these for its work replaces the value in its role.
COMMON = {
    # all files are read-only
    "ProtectSystem": "strict",
    # home directories are empty
    "ProtectHome": True,
    "PrivateTmp": True,
    "PrivateDevices": True,
    "ProtectKernelTunables": True,
    "ProtectKernelModules": True,
    "ProtectKernelLogs": True,
    "ProtectControlGroups": True,
    "ProtectClock": True,
    # other users' processes
    "ProtectProc": "invisible",
    # programs that run as another user by their file's mode
    "NoNewPrivileges": True,
    "RestrictSUIDSGID": True,
    "CapabilityBoundingSet": "",
    "LockPersonality": True,
    "MemoryDenyWriteExecute": True,
    "RestrictNamespaces": True,
    "RestrictRealtime": True,
    # the last asks the kernel for the machine's addresses
    "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "SystemCallArchitectures": "native",
    # A list of denied calls, because a list of permitted ones lacks those that the next C library uses. chroot is in
    # @mount; the kernel permits it to those that have the capability.
    "SystemCallFilter": ["~@clock @cpu-emulation @debug @module @mount @obsolete @raw-io @reboot @swap", "chroot"],
    # a denied call fails, and the program goes on
    "SystemCallErrorNumber": "EPERM",
}  # type: t.Dict[str, Value]

#: The version of systemd that has an option; without an entry, all supported ones do. docs/versions.md has the same.
SINCE = {
    "RestrictSUIDSGID": 242,
    "ProtectKernelLogs": 244,
    "ProtectClock": 245,
    "ProtectProc": 247,
}

#: The oldest supported version, for a server that does not say which it has.
OLDEST = 237

#: Options for which systemd mounts file systems that only the service sees. Some containers forbid that, and then the
#: service can't start.
MOUNTS = (
    "ProtectSystem",
    "ProtectHome",
    "PrivateTmp",
    "PrivateDevices",
    "ProtectKernelTunables",
    "ProtectKernelModules",
    "ProtectKernelLogs",
    "ProtectControlGroups",
    "ProtectProc",
    "PrivateNetwork",
    "ReadWritePaths",
)

#: Options that systemd makes filters of system calls of. Without the capability CAP_SYS_ADMIN, which some containers do
#: not have, it can't give them to a service that changes its user.
FILTERS = (
    "ProtectKernelModules",
    "ProtectKernelLogs",
    "ProtectClock",
    "PrivateDevices",
    "ProtectKernelTunables",
    "RestrictSUIDSGID",
    "LockPersonality",
    "MemoryDenyWriteExecute",
    "RestrictNamespaces",
    "RestrictRealtime",
    "RestrictAddressFamilies",
    "SystemCallArchitectures",
    "SystemCallFilter",
    "SystemCallErrorNumber",
)

#: Those of the first that can_mount() tries, which all versions of systemd-run know. Newer versions ignore them where
#: they can't mount, and refuse a service with a user of its own (DynamicUser), which is tried with them.
_TRIED = (
    "ProtectSystem",
    "ProtectHome",
    "PrivateTmp",
    "PrivateDevices",
    "ProtectKernelTunables",
    "ProtectControlGroups",
)

#: Written by systemd where it runs in a container.
CONTAINER = "/run/systemd/container"
#: The exit code of a service for which systemd could not mount file systems.
_EXIT_NAMESPACE = "226"
#: The service that tries it.
_UNIT = "port587-mounts"


def settings(
    options: t.Mapping[str, t.Optional[Value]], version: t.Optional[str], mounts: bool, filters: bool
) -> t.List[str]:
    """The lines for the section Service.

    ``options``: what differs from COMMON; None leaves an option as the unit has it. ``version``: systemd's; None if it
    is unknown. ``mounts``, ``filters``: see can_mount() and can_filter().
    """
    useless = (() if mounts else MOUNTS) + (() if filters else FILTERS)
    number = int(version.split(".")[0]) if version else OLDEST
    lines = []
    for name, value in dict(COMMON, **options).items():
        if value is None or SINCE.get(name, 0) > number or name in useless:
            continue
        if isinstance(value, bool):
            value = "yes" if value else "no"
        lines += ["%s=%s" % (name, one) for one in ([value] if isinstance(value, str) else value)]
    return lines


@functools.lru_cache(maxsize=None)
def can_mount() -> bool:
    """Whether services can have mounts of their own. In a container, this starts one that does nothing, once."""
    if not os.path.exists(CONTAINER):
        return True
    tried = {name: COMMON[name] if isinstance(COMMON[name], str) else "yes" for name in _TRIED}
    return _exit_of("DynamicUser=yes", *("%s=%s" % pair for pair in tried.items())) != _EXIT_NAMESPACE


@functools.lru_cache(maxsize=None)
def can_filter() -> bool:
    """Whether services of other users can have filters of system calls. What can mount has the capability."""
    return can_mount() or _exit_of("User=nobody", "SystemCallFilter=~@clock") == "0"


def _exit_of(*properties: str) -> str:
    """The exit code of a service that does nothing."""
    # it ends with the service, as with --wait, and needs no D-Bus
    argv = ["systemd-run", "--quiet", "--unit=" + _UNIT, "--service-type=oneshot"]
    if run_command(argv + ["--property=" + one for one in properties] + ["true"])[0] == 0:
        return "0"
    code = run_command(["systemctl", "show", "--value", "--property=ExecMainStatus", _UNIT])[1].strip()
    run_command(["systemctl", "reset-failed", _UNIT])
    return code
