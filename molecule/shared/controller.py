# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible as a person types it, for the scenarios' tests: on one host, without colours, all output in one."""

import json
import os
import pathlib
import subprocess
import typing as t

INVENTORY = pathlib.Path(__file__).parent / "inventory"


def run(program: str, name: str, *arguments: t.Any, **environment: str) -> "subprocess.CompletedProcess[str]":
    """`ansible` or `ansible-playbook`, on the host with this name."""
    return subprocess.run(
        [program, "--inventory", INVENTORY, "--limit", name, *arguments],
        env={**os.environ, "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def play(playbook: pathlib.Path, name: str, *options: str, **variables: t.Any) -> "subprocess.CompletedProcess[str]":
    """A playbook, with these variables set otherwise."""
    return run("ansible-playbook", name, "--diff", *options, "--extra-vars", json.dumps(variables), playbook)
