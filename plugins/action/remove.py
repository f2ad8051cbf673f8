# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs port587.mail.remove, and says in words why that can't be done as root."""

from __future__ import annotations

from ansible_collections.port587.mail.plugins.plugin_utils._become import RunAsRoot


class ActionModule(RunAsRoot):
    """The module is the first that runs on a server."""
