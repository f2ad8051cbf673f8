# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Logins with and without permission to use sudo."""

import pathlib
import typing as t

import controller
import pytest
from testinfra.host import Host

testinfra_hosts = ["ansible://mail"]

ROOT = pathlib.Path(__file__).parents[3]
SUDO = "/etc/sudoers.d/carol"
PASSWORD = "carol's own"
#: Ubuntu's sudo since 25.10; Debian's package leaves the other one in its place.
SUDO_RS = "/usr/lib/cargo/bin/sudo"


@pytest.fixture(scope="module", autouse=True)
def carol(host: Host) -> t.Iterator[None]:
    host.check_output(
        "useradd --create-home --shell /bin/bash carol && printf %%s %s | chpasswd"
        " && install -d -o carol /home/carol/.ssh && install -o carol /root/.ssh/authorized_keys /home/carol/.ssh",
        f"carol:{PASSWORD}",
    )
    yield
    host.check_output(f"pkill -u carol; userdel --remove carol; rm -f {SUDO}")


@pytest.fixture(scope="module")
def rust(host: Host) -> t.Iterator[None]:
    """The programs that Ubuntu has since 25.10: sudo and the coreutils, written anew in Rust."""
    if host.run("apt-get install -q -y --no-install-recommends sudo-rs rust-coreutils").rc:
        pytest.skip("this release has no sudo-rs")
    host.check_output("ln -sf /usr/lib/cargo/bin/coreutils/* /usr/local/bin/")
    assert host.check_output("readlink -f $(command -v chmod)") == "/usr/bin/coreutils"
    yield
    host.check_output(
        "find /usr/local/bin -lname '*/coreutils/*' -delete && apt-get purge -q -y sudo-rs rust-coreutils"
    )


def play(host: Host, sudoers: str, **variables: str) -> str:
    host.check_output(f"printf %s > {SUDO}", sudoers)
    name = host.backend.get_hostname()
    settings = {
        "ansible_user": "carol",
        # where sudo is sudo-rs, this is the other one
        "ansible_become_exe": "sudo.ws" if host.exists("sudo.ws") else "sudo",
        "mail_hostname": "mail.example.com",
        "mail_domains": ["example.com"],
        "mail_accounts": [{"address": "eve@example.com", "password": "secret"}],
        **variables,
    }
    done = controller.play(ROOT / "playbooks" / "accounts.yml", name, "--check", **settings)
    return f"{done.code} " + " ".join(done.output.split())


NO_PASSWORD = "carol ALL=(ALL) NOPASSWD: ALL\n"
ASKS = "carol ALL=(ALL) ALL\n"
WANTS_TTY = "Defaults requiretty\n"


@pytest.mark.parametrize(
    ("sudoers", "variables", "words"),
    [
        (NO_PASSWORD + WANTS_TTY, {}, "sudo wants a terminal (requiretty in /etc/sudoers), and Ansible has none"),
        (ASKS + WANTS_TTY, {"ansible_become_password": PASSWORD}, "Write `ansible_pipelining: false` for this host"),
        (ASKS, {}, "sudo asks carol for a password. Add --ask-become-pass to the command"),
        (ASKS, {"ansible_become_password": "another"}, "sudo refuses the password. It is that of carol on the server"),
        ("", {"ansible_become_password": PASSWORD}, "carol may not use sudo. Run `adduser carol sudo`"),
    ],
)
def test_it_is_said_why(host: Host, sudoers: str, variables: t.Dict[str, str], words: str) -> None:
    said = play(host, sudoers, **variables)
    assert said.startswith("2 ")
    assert "become: " in said
    assert words in said, said


def test_there_is_no_sudo(host: Host) -> None:
    host.check_output("mv /usr/bin/sudo /usr/bin/sudo.away")
    try:
        said = play(host, NO_PASSWORD, ansible_become_exe="sudo")
    finally:
        host.check_output("mv /usr/bin/sudo.away /usr/bin/sudo")
    assert "become: there is no sudo on the server. Install it there as root (apt-get install sudo)" in said, said


@pytest.mark.parametrize(
    ("sudoers", "variables"),
    [
        (NO_PASSWORD, {}),
        (ASKS, {"ansible_become_password": PASSWORD}),
        # the cure for the first two above
        (ASKS + WANTS_TTY, {"ansible_become_password": PASSWORD, "ansible_pipelining": "false"}),
    ],
)
def test_otherwise_it_works(host: Host, sudoers: str, variables: t.Dict[str, str]) -> None:
    said = play(host, sudoers, **variables)
    assert said.startswith("0 "), said


@pytest.mark.parametrize(
    ("sudoers", "variables", "said"),
    [
        (NO_PASSWORD, {}, "0 "),
        (ASKS, {}, "sudo asks carol for a password. Add --ask-become-pass to the command"),
        (ASKS, {"ansible_become_password": PASSWORD}, "Write `ansible_become_exe: sudo.ws` for this host"),
    ],
    ids=["no password", "no password given", "password given"],
)
def test_sudo_and_coreutils_in_rust(
    host: Host, rust: None, sudoers: str, variables: t.Dict[str, str], said: str
) -> None:
    assert said in play(host, sudoers, ansible_become_exe=SUDO_RS, **variables)
