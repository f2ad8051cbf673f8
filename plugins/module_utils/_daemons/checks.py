# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Helpers for the checks of several daemons."""

import errno
import os
import shutil
import socket
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._transaction.view import View


def is_pending(absent: t.Optional[str]) -> bool:
    """Whether another part of this collection makes the missing path or user."""
    return absent == "vmail" or bool(absent and absent.startswith("/etc/port587/"))


def is_taken(port: int, address: str = "", kind: socket.SocketKind = socket.SOCK_STREAM) -> bool:
    """Whether a program listens on the port, on any address."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as probe:
            if kind == socket.SOCK_STREAM:
                # closed connections don't count
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
    except OSError as exc:
        return exc.errno == errno.EADDRINUSE
    return False


def copy_directory(directory: str, tree: str, view: View) -> None:
    """Copy a daemon's whole directory, as it will be after the change."""
    if os.path.isdir(directory):
        shutil.copytree(directory, tree, ignore_dangling_symlinks=True)
    for path, new in view.files.items():
        if path.startswith(directory + "/"):
            copy = path.replace(directory, tree, 1)
            os.makedirs(os.path.dirname(copy), exist_ok=True)
            with open(copy, "wb") as handle:
                handle.write(new.content)
    for path in view.removed:
        if path.startswith(directory + "/"):
            os.unlink(path.replace(directory, tree, 1))
