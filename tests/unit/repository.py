# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The port587.mail contributors
"""Where this checkout is: for tests that read its files."""

import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
