# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests only our own code, runs on one of the hosts."""

from by_host import pytest_collection_modifyitems as pytest_collection_modifyitems
