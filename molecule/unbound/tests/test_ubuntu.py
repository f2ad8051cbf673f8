# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ubuntu has beside it: systemd-resolved as the machine's resolver, rsyslog, and a profile of AppArmor."""

import re
import typing as t

import controller
import pytest
from test_unbound import CONFIGURATION, SCENARIO, answer, name_of
from testinfra.host import Host

testinfra_hosts = ["ansible://mail"]
PROFILE = "/etc/apparmor.d/usr.sbin.unbound"


@pytest.fixture
def as_on_ubuntu(host: Host) -> t.Iterator[None]:
    """Docker mounts resolv.conf, so the stub's content stands in for a link to it."""
    host.check_output(
        "cp /etc/resolv.conf /root/ && apt-get install -q -y --no-install-recommends systemd-resolved rsyslog"
    )
    host.check_output("cat /run/systemd/resolve/stub-resolv.conf >/etc/resolv.conf")
    yield
    host.check_output("cat /root/resolv.conf >/etc/resolv.conf; apt-get purge -q -y systemd-resolved rsyslog")
    host.check_output("cat /root/resolv.conf >/etc/resolv.conf")


def test_it_works_beside_resolved_and_rsyslog(host: Host, as_on_ubuntu: None) -> None:
    assert host.check_output("ss -Hlnu 'sport = 53'").count("127.0.0.53%lo") == 1
    done = controller.play(SCENARIO / "unbound.yml", name_of(host), unbound_extra="server:\n  verbosity: 2")
    assert done.changed == 1, done.output
    assert answer(host) == "0 True"
    assert "nameserver 127.0.0.53" in host.check_output("cat /etc/resolv.conf")
    # the transaction quotes the journal, which rsyslog leaves as it is
    assert "start of service" in host.check_output("journalctl --quiet --unit=unbound --since=-1min --output=cat")
    assert "start of service" in host.check_output("tail -n 100 /var/log/syslog")
    assert controller.play(SCENARIO / "unbound.yml", name_of(host)).changed == 1


#: The programs that the roles install and run, beside unbound.
OTHERS = [
    *("/usr/lib/postfix/sbin/master", "/usr/lib/postfix/sbin/smtpd", "/usr/sbin/postfix", "/usr/sbin/postdrop"),
    *("/usr/sbin/dovecot", "/usr/lib/dovecot/auth", "/usr/lib/dovecot/imap", "/usr/lib/dovecot/lmtp"),
    *("/usr/bin/rspamd", "/usr/bin/redis-server", "/usr/bin/valkey-server", "/usr/sbin/nginx", "/usr/sbin/postgrey"),
    *("/usr/bin/python3.13", "/usr/bin/certbot", "/usr/bin/restic", "/usr/bin/openssl", "/usr/sbin/sendmail"),
]


@pytest.fixture(scope="module")
def with_apparmor(host: Host) -> None:
    """The kernel here has none, so its rules are read. Ubuntu enforces the profiles that packages bring."""
    packages = "apparmor apparmor-profiles apparmor-profiles-extra strace"
    host.check_output(f"apt-get install -q -y --no-install-recommends {packages}")


class Profile:
    """The rules for files of a profile (apparmor.d(5)), with its includes and variables."""

    def __init__(self, host: Host, path: str) -> None:
        # the parser has to take it, and copies what it includes
        text = host.check_output(f"apparmor_parser -QK {path} && apparmor_parser -p {path}")
        self.variables: t.Dict[str, t.List[str]] = {}
        for name, more, values in re.findall(r"^@\{(\w+)\}\s*(\+?)=\s*(.*)", text, re.MULTILINE):
            self.variables[name] = (self.variables.get(name, []) if more else []) + values.split()
        rule = r"^\s*((?:(?:audit|deny|owner|allow)\s+)*)([/@]\S*)\s+([a-zA-Z]+),"
        self.rules = re.findall(rule, text, re.MULTILINE)

    def expanded(self, glob: str) -> t.Iterator[str]:
        used = re.search(r"@\{(\w+)\}", glob)
        if used is None:
            yield glob
            return
        for value in self.variables.get(used[1], []):
            yield from self.expanded(glob[: used.start()] + value + glob[used.end() :])

    def permits(self, path: str) -> t.Set[str]:
        """The rights of the profile's program to a file of its own."""
        given: t.Set[str] = set()
        denied: t.Set[str] = set()
        for words, rule, rights in self.rules:
            for glob in self.expanded(rule):
                if re.fullmatch(pattern(re.sub("//+", "/", glob)), path):
                    (denied if "deny" in words else given).update(rights)
        return given - denied


def pattern(glob: str) -> str:
    """A glob of AppArmor as a regular expression."""
    signs = {"**": ".*", "*": "[^/]*", "?": "[^/]", "{": "(?:", "}": ")"}
    depth, parts = 0, []
    for part in re.findall(r"\*\*|\[[^]]*\]|\\\\.|.", glob):
        depth += {"{": 1, "}": -1}.get(part, 0)
        if part.startswith("["):
            parts.append(part)
        else:
            parts.append("|" if part == "," and depth else signs.get(part) or re.escape(part))
    return "".join(parts)


def opened(host: Host) -> t.Dict[str, t.Set[str]]:
    """The files that unbound opens from its start to its first answer, and what for; links are followed."""
    host.check_output("systemctl stop unbound")
    calls = "open,openat,bind,connect,unlink,unlinkat,rename,renameat2,mkdir,chmod,chown"
    host.check_output(
        f"rm -f /root/trace; systemd-run --quiet --unit=traced-unbound strace -f -y -o /root/trace -e trace={calls}"
        f" unbound -d -c {CONFIGURATION}"
    )
    try:
        host.check_output(
            "for i in $(seq 50); do ss -Hlnu 'sport = 53' | grep -q 127.0.0.1: && exit; sleep .1; done; exit 1"
        )
        assert answer(host) == "0 True"
    finally:
        host.check_output("systemctl stop traced-unbound; systemctl start unbound")
    found: t.Dict[str, t.Set[str]] = {}
    for call in host.check_output("cat /root/trace").splitlines():
        file = re.search(r" open(?:at)?\(.*\b(O_RDONLY|O_WRONLY|O_RDWR)\b.* = \d+<(/[^>]*)>", call)
        if file:
            found.setdefault(file[2], set()).update({"O_RDONLY": "r", "O_WRONLY": "w", "O_RDWR": "rw"}[file[1]])
        socket = re.search(r'sun_path="([^"]*)"', call)
        if socket and " = 0" in call:
            found.setdefault(host.check_output(f"readlink -f {socket[1]}"), set()).update("w")
        # it has nothing else to do with files
        assert not re.search(r"(unlink|rename|mkdir|chmod|chown)\w*\(.* = 0$", call), call
    return found


@pytest.mark.usefixtures("with_apparmor")
def test_profiles_that_forbid_what_the_roles_write(host: Host) -> None:
    """An administrator can enforce these, and preflight then warns, by their names."""
    extra = "/usr/share/apparmor/extra-profiles"
    assert "r" in Profile(host, f"{extra}/usr.lib.dovecot.auth").permits("/etc/dovecot/dovecot.conf")
    assert "r" not in Profile(host, f"{extra}/usr.lib.dovecot.auth").permits("/etc/port587/accounts/passwd")
    assert "r" not in Profile(host, f"{extra}/usr.sbin.dovecot").permits("/etc/port587/tls/combined.pem")
    assert "r" not in Profile(host, f"{extra}/postfix-smtpd").permits("/etc/port587/tls/combined.pem")
    names = host.check_output(f"sed -n 's/^profile \\([^ ]*\\) .*/\\1/p' {extra}/*dovecot* {extra}/*postfix*").split()
    assert len(names) > 40
    assert [name for name in names if not re.search("dovecot|postfix", name)] == []


@pytest.mark.usefixtures("with_apparmor")
def test_the_profile_of_apparmor_permits_what_unbound_opens(host: Host) -> None:
    profile = Profile(host, PROFILE)
    files = opened(host)
    assert files[CONFIGURATION] == {"r"}
    refused = {path: wanted for path, wanted in files.items() if not wanted <= profile.permits(path)}
    assert not refused
    # the keys of the real root, and what systemd wants to be told
    key = host.check_output(f"unbound-checkconf -o auto-trust-anchor-file {CONFIGURATION}")
    for path in {key or "/var/lib/unbound/root.key", "/var/lib/unbound/root.key.123-0"}:
        assert profile.permits(path) >= {"r", "w"}
    assert "w" in profile.permits("/run/systemd/notify")
    # files that unbound_extra might name
    assert profile.permits("/etc/port587/unbound.conf") == set()
    assert profile.permits("/etc/unbound/unbound_control.key") == set()


@pytest.mark.usefixtures("with_apparmor")
def test_no_other_program_of_ours_has_a_profile(host: Host) -> None:
    """If this fails on a new release, compare that profile with what its program opens, as above."""
    found = host.check_output("grep -hE '^ *(profile .*)?/.*\\{$|^ *profile ' /etc/apparmor.d/* 2>/dev/null; true")
    globs = [re.split(r" (?:flags=|xattrs=|\{)", line)[0].split()[-1] for line in found.splitlines()]
    attached = [glob.strip('"').replace("@{bin}", "/{,usr/}{,s}bin") for glob in globs]
    assert any(re.fullmatch(pattern(glob), "/usr/sbin/unbound") for glob in attached)
    assert [path for path in OTHERS for glob in attached if re.fullmatch(pattern(glob), path)] == []
