# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""All that transactions look after, as text: two equal ones mean that nothing was touched."""

#: A Python program for the host: a line for each file and directory, with all there is to it; and what the daemons do.
SNAPSHOT = """
import glob, hashlib, os, stat
for top in ("/etc/postfix", "/etc/dovecot", "/etc/port587", "/var/lib/port587", "/var/vmail"):
    for directory, _names, files in sorted(os.walk(top)):
        for path in [directory] + [os.path.join(directory, name) for name in sorted(files)]:
            if top == "/var/vmail" and path != top or path.endswith("/run.lock"):
                continue
            s = os.lstat(path)
            line = "%s %o %d %d" % (path, s.st_mode, s.st_uid, s.st_gid)
            if stat.S_ISREG(s.st_mode):
                line += " %d %s" % (s.st_mtime_ns, hashlib.sha256(open(path, "rb").read()).hexdigest())
            print(line)
for unit in ("postfix", "dovecot"):
    print(unit, os.popen("systemctl is-active %s; systemctl is-enabled %s" % (unit, unit)).read().split())
"""
