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

#: Those of them that can_mount() tries, which all versions of systemd-run know.
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
_EXIT_NAMESPACE = 226


def settings(options: t.Mapping[str, t.Optional[Value]], version: t.Optional[str], mounts: bool) -> t.List[str]:
    """The lines for the section Service.

    ``options``: what differs from COMMON; None leaves an option as the unit has it. ``version``: systemd's; None if it
    is unknown. ``mounts``: whether services can have mounts of their own, see can_mount().
    """
    number = int(version.split(".")[0]) if version else OLDEST
    lines = []
    for name, value in dict(COMMON, **options).items():
        if value is None or SINCE.get(name, 0) > number or (name in MOUNTS and not mounts):
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
    argv = ["systemd-run", "--quiet", "--wait", "--collect"]
    argv += ["--property=%s=%s" % (name, COMMON[name] if isinstance(COMMON[name], str) else "yes") for name in _TRIED]
    return run_command(argv + ["true"])[0] != _EXIT_NAMESPACE
