# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the documentation of several modules has in common."""


class ModuleDocFragment:
    """``port587.mail.attributes`` for every module, and one more part by what it does."""

    DOCUMENTATION = r"""
attributes:
  check_mode:
    description: Can run in check mode and predict what a real run would change, without changing anything.
  diff_mode:
    description: Shows in diff mode what changes.
  idempotent:
    description: A second run with the same options changes nothing.
"""

    SERVER = r"""
attributes:
  platform:
    description: Systems on which the module can run.
    platforms: debian
    support: full
    details: See the README for the releases of Debian and Ubuntu that are supported.
"""

    CONTROLLER = r"""
attributes:
  platform:
    description: Systems on which the module can run.
    platforms: posix
    support: full
    details: Meant for the controller. Needs no program beside Python.
"""

    READ_ONLY = r"""
attributes:
  check_mode:
    support: full
    details: The module changes nothing, so check mode makes no difference.
  diff_mode:
    support: none
    details: The module changes nothing, so there is no difference to show.
  idempotent:
    support: full
"""
