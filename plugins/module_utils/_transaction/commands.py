# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Run programs on the server."""

import os
import shutil
import subprocess
import typing as t

SBIN = "/usr/sbin:/usr/bin:/sbin:/bin"


def run_command(argv: t.Sequence[str], stdin: t.Optional[bytes] = None) -> t.Tuple[int, str, str]:
    """Exit code, standard output and standard error of a command, in the C locale."""
    env = dict(os.environ, LC_ALL="C", PATH=SBIN)
    # this code also runs without an AnsibleModule, so module.run_command is not available
    done = subprocess.run(  # pylint: disable=ansible-bad-function
        list(argv),
        # without a terminal, so that no program can prompt
        input=stdin or b"",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        check=False,
    )
    return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


def has_command(name: str) -> bool:
    return shutil.which(name, path=SBIN) is not None
