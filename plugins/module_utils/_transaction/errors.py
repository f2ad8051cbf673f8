# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Errors of a transaction."""

import typing as t


class TransactionError(Exception):
    """The change was not made, or was rolled back. ``details`` goes into the module's result."""

    def __init__(self, message: str, **details: t.Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class DamagedError(TransactionError):
    """A file of the stored state can't be read. ``why``: what is wrong with it."""

    def __init__(self, message: str, why: str) -> None:
        super().__init__(message)
        self.why = why


class ProofError(Exception):
    """The daemon does not do what it should after the change."""
