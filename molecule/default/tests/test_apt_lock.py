# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Another program uses apt, as automatic updates of a new server do in its first minutes."""

import re
import time
import typing as t

import controller
import pytest

testinfra_hosts = ["ansible://mail"]
pytestmark = pytest.mark.one_host

# The lock that apt itself takes, for some seconds or for good
HELD = 'import fcntl, time; f = open("/var/lib/dpkg/lock-frontend", "w"); fcntl.lockf(f, fcntl.LOCK_EX); time.sleep(%d)'
HOLDER = r"python3\S* \(pid \d+, other-apt.service\), running for \d+ s"
PACKAGE = "tree"


def install(host: t.Any, wait: int, package: str = PACKAGE) -> controller.Played:
    arguments = f'{{"name": ["{package}"], "wait": {wait}}}'
    name = host.ansible.get_variables()["inventory_hostname"]
    done = controller.end(
        controller.start(
            "ansible", name, "mail", "--module-name=port587.mail.packages", f"--args={arguments}", "--become"
        )
    )
    # without the lines that YAML breaks
    return done._replace(output=" ".join(done.output.split()))


@pytest.fixture
def hold(host: t.Any) -> t.Iterator[t.Callable[[int], None]]:
    def begin(seconds: int) -> None:
        # Ansible is at its quickest the second time
        assert install(host, 0, "dpkg").code == 0
        host.check_output("systemd-run --quiet --unit=other-apt python3 -c '%s'" % (HELD % seconds))
        host.check_output("for i in $(seq 50); do ! grep -q POSIX.*WRITE /proc/locks || exit 0; sleep .1; done; exit 1")

    yield begin
    host.run("systemctl stop other-apt")
    host.check_output(f"apt-get -qq purge {PACKAGE}")


def test_a_lock_that_is_given_back_is_waited_for(host: t.Any, hold: t.Callable[[int], None]) -> None:
    hold(15)
    began = time.monotonic()
    done = install(host, 120)
    assert done.code == 0, done.output
    assert time.monotonic() - began > 10
    assert host.package(PACKAGE).is_installed
    assert re.search(rf"apt is in use by {HOLDER}\. Waiting, for \d+ s more at most", done.output)


def test_a_lock_that_nobody_gives_back(host: t.Any, hold: t.Callable[[int], None]) -> None:
    hold(600)
    done = install(host, 8)
    assert done.code == 2
    assert re.search(
        rf"apt has not been free for 8 s, so nothing was installed: it is in use by {HOLDER}\. See what that is doing",
        done.output,
    )
    assert not host.package(PACKAGE).is_installed
