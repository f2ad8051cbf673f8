# SPDX-License-Identifier: GPL-3.0-or-later
"""A server's life in figures: backup and restore beside tar and rsync."""

import time
import typing as t

from machines import DOMAIN, PASSWORD, USERS, Machine, site

#: How many mails are saved.
MAILS = 20_000

#: Writes mails of some kilobytes up to a megabyte, half of each an attachment. Always the same ones.
FILL = """
import base64, os, random, sys
chance, count, homes = random.Random(1), int(sys.argv[1]), sys.argv[2:]
words = [bytes(chance.choices(b"abcdefghijklmnopqrstuvwxyz", k=chance.randint(2, 9))) for _ in range(5000)]
for number in range(count):
    folder = homes[number % len(homes)] + ("" if number % 3 else "/.Archive")
    for name in ("cur", "new", "tmp"):
        os.makedirs(folder + "/" + name, exist_ok=True)
    size = min(int(chance.lognormvariate(8.3, 1.1)), 1 << 20)
    text = b" ".join(chance.choices(words, k=size // 13))
    attachment = base64.encodebytes(chance.getrandbits(size * 3 + 8).to_bytes(size * 3 // 8 + 2, "big"))
    with open("%s/cur/%d.M%dP1.bench:2,S" % (folder, 1700000000 + number, number), "wb") as file:
        file.write(b"From: a@bench.example\\nSubject: %d\\nMessage-ID: <%d@bench.example>\\n\\n" % (number, number))
        file.write(text + b"\\n\\n" + attachment)
"""

#: The backup's program. Its unit has the lowest priority, and so have the others here.
PROGRAM = "nice -n 19 python3 -I /usr/local/lib/port587/backup"
#: By operation and program: what has to be there first, and what is measured. All end with everything on the disk.
FRESH = "rm -rf /root/repository /var/cache/port587-backup /var/lib/port587-backup"
ASIDE = "rm -rf /var/*.before-* /var/lib/*.before-* /etc/port587/*.before-* /var/lib/port587/*.before-*"
OPERATIONS: t.Dict[str, t.Dict[str, t.Tuple[str, str]]] = {
    "first backup": {
        "ours": (f"{FRESH}; {PROGRAM} prepare", f"{PROGRAM} run"),
        "tar": ("rm -f /root/tar", "nice -n 19 tar -cf /root/tar /var/vmail"),
        "rsync": ("rm -rf /root/rsync", "nice -n 19 rsync -a /var/vmail/ /root/rsync"),
    },
    "backup of 200 new mails": {
        "ours": ("", f"{PROGRAM} run"),
        "tar": ("rm -f /root/tar", "nice -n 19 tar -cf /root/tar /var/vmail"),
        "rsync": ("", "nice -n 19 rsync -a /var/vmail/ /root/rsync"),
    },
    "restore": {
        "ours": (ASIDE, f"{PROGRAM} restore"),
        "tar": ("rm -rf /root/back", "mkdir /root/back && nice -n 19 tar -xf /root/tar -C /root/back"),
        "rsync": ("rm -rf /root/back", "nice -n 19 rsync -a /root/rsync/ /root/back"),
    },
}


def fill(machine: Machine, count: int, owner: str, *homes: str) -> None:
    machine.sh(f"python3 - {count} {' '.join(homes)}; chown -R {owner} {' '.join(homes)}; sync", FILL)


def backup(machine: Machine, rounds: int) -> t.Iterator[t.Tuple[str, str, t.List[float]]]:
    """By operation and program, the seconds of each round."""
    homes = [f"/var/vmail/{DOMAIN}/u{number}/Maildir" for number in range(USERS)]
    # alone: no other tree is on the server
    lean = {"mail_rspamd": False, "mail_autoconfig": False}
    where = {"mail_backup": True, "backup_repository": "/root/repository", "backup_password": PASSWORD}
    machine.play("site.yml", **site(**lean, **where))
    machine.sh("apt-get -q -y --no-install-recommends install rsync")
    machine.sh(f"rm -rf {' '.join(homes)}")
    fill(machine, MAILS, "vmail:vmail", *homes)
    taken: t.Dict[t.Tuple[str, str], t.List[float]] = {}
    for number in range(rounds):
        for operation, programs in OPERATIONS.items():
            if operation.startswith("backup of"):
                # names that no other round has used
                fresh = f"{homes[0]}/.Round{number}"
                fill(machine, 200, "vmail:vmail", fresh)
            for program, (before, measured) in programs.items():
                machine.sh(f"{before or ':'}; sync")
                began = time.monotonic()
                machine.sh(f"{measured} && sync -f /root")
                taken.setdefault((operation, program), []).append(time.monotonic() - began)
        machine.sh(f"{ASIDE}; rm -rf {homes[0]}/.Round*")
    for (operation, program), seconds in taken.items():
        yield operation, program, seconds
