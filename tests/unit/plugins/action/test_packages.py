# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action packages while another program uses apt. The scenario default tests it with real locks."""

import typing as t

import pytest

pytest.importorskip("ansible.plugins.action")

from ansible_collections.port587.mail.plugins.action import packages

Result = t.Dict[str, t.Any]

INSTALLED: Result = {"changed": True}
LOCKED: Result = {
    "failed": True,
    "msg": "'/usr/bin/apt-get -y install tree' failed: E: Could not get lock /var/lib/dpkg/lock-frontend. It is held "
    "by process 812 (unattended-upgr)\nE: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), is "
    "another process using it?",
}
HELD: Result = {"holders": ["unattended-upgr (pid 812, apt-daily-upgrade.service), running for 45 s"], "waited": 0}
FREE: Result = {"holders": [], "waited": 7}
NOBODY: Result = {"holders": [], "waited": 0}


@pytest.mark.parametrize(
    ("result", "locked"),
    [
        (LOCKED, True),
        # an apt that does not know who it is
        (
            {
                "failed": True,
                "msg": "failed",
                "stderr": "E: Could not get lock /var/lib/dpkg/lock - open (11: x)",
            },
            True,
        ),
        (
            {
                "failed": True,
                "msg": "Failed to lock apt for exclusive operation: Failed to lock /var/lib/apt/lists/lock",
            },
            True,
        ),
        (
            {
                "failed": True,
                "msg": "Failed to lock directory /var/lib/apt/lists/: E:Could not get lock /var/lib/apt/lists/lock.",
            },
            True,
        ),
        (
            {
                "failed": True,
                "msg": "x",
                "stderr": "dpkg: error: dpkg frontend lock was locked by another process with pid 8",
            },
            True,
        ),
        ({"failed": True, "msg": "No package matching 'lockfile-progs' is available"}, False),
        ({"failed": True, "msg": "Unable to fetch some archives"}, False),
        ({"changed": True, "stderr": "Waiting for cache lock: Could not get lock /var/lib/dpkg/lock-frontend"}, False),
    ],
)
def test_what_a_lock_looks_like(result: Result, locked: bool) -> None:
    assert packages.is_locked(result) is locked


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> t.Callable[..., t.Tuple[Result, t.List[str], t.List[int]]]:
    """Let the modules answer this one after the other. Gives what came of it, what was told, and each wait."""

    def go(*answers: Result, wait: int = 600) -> t.Tuple[Result, t.List[str], t.List[int]]:
        left, told, waits, now = list(answers), [], [], [0.0]

        def execute(module_name: str, module_args: t.Dict[str, t.Any], **_more: t.Any) -> Result:
            answer = left.pop(0)
            if module_name == "port587.mail.packages":
                waits.append(module_args["wait"])
                now[0] += module_args["wait"]
            else:
                assert module_args["policy_rc_d"] == 101
                now[0] += 5
            return answer

        plugin = object.__new__(packages.ActionModule)
        monkeypatch.setattr(packages.ActionBase, "run", lambda *_arguments: {})
        monkeypatch.setattr(plugin, "validate_argument_spec", lambda _spec: (None, {"name": ["tree"], "wait": wait}))
        monkeypatch.setattr(plugin, "_execute_module", execute)
        monkeypatch.setattr(packages.time, "monotonic", lambda: now[0])
        monkeypatch.setattr(packages.Display, "display", lambda _self, text: told.append(text))
        result = plugin.run(None, {"inventory_hostname": "mail"})
        assert left == []
        return result, told, waits

    return go


def test_a_free_apt_costs_nothing_more(run: t.Callable[..., t.Any]) -> None:
    assert run(INSTALLED) == (INSTALLED, [], [])
    failed = {"failed": True, "msg": "No package matching 'tree' is available"}
    assert run(failed) == (failed, [], [])


def test_the_person_is_told_at_once_and_each_half_minute(run: t.Callable[..., t.Any]) -> None:
    result, told, waits = run(LOCKED, HELD, HELD, FREE, INSTALLED)
    assert result == INSTALLED
    assert waits == [0, 30, 30]
    assert told == [
        f"mail: apt is in use by {HELD['holders'][0]}. Waiting, for {left} s more at most." for left in (595, 595)
    ]


def test_a_lock_that_nobody_gives_back(run: t.Callable[..., t.Any]) -> None:
    result, _told, waits = run(LOCKED, HELD, HELD, HELD, HELD, wait=50)
    assert waits == [0, 30, 15, 0]
    assert result["failed"]
    assert result["msg"].startswith(
        "apt has not been free for 50 s, so nothing was installed: it is in use by unattended-upgr (pid"
    )


def test_a_lock_that_is_taken_again(run: t.Callable[..., t.Any]) -> None:
    assert run(LOCKED, HELD, FREE, LOCKED, HELD, FREE, INSTALLED)[0] == INSTALLED


def test_a_lock_of_nobody(run: t.Callable[..., t.Any]) -> None:
    """In a container, by a process of its host, say."""
    assert run(LOCKED, NOBODY, LOCKED, NOBODY, LOCKED, NOBODY, LOCKED, NOBODY)[0] == LOCKED


def test_new_packages_are_found_in_apts_output() -> None:
    said = """Preconfiguring packages ...
Selecting previously unselected package libsasl2-modules:amd64.
(Reading database ... 12345 files and directories currently installed.)
Preparing to unpack .../dovecot-lmtpd_2.4.1_amd64.deb ...
Selecting previously unselected package dovecot-lmtpd.\r
Preparing to unpack .../openssl_3.5_amd64.deb ...
Unpacking openssl (3.5) over (3.4) ...
Selecting previously unselected package libperl5.40:amd64.
"""
    assert packages.new_packages(said) == ["libsasl2-modules", "dovecot-lmtpd", "libperl5.40"]
