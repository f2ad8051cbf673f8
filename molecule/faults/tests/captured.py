# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A role's transaction as a play sends it to the host, run there again and again with other contents.

A play costs two seconds of processor time before it comes to the transaction, which these tests are about. They take
what Ansible offers for debugging modules: with ANSIBLE_KEEP_REMOTE_FILES the module stays on the host, and its commands
`explode` and `execute` run it with other arguments.
"""

import functools
import json
import re
import subprocess
import typing as t

from conftest import PEOPLE, SCENARIO
from controller import end, start

#: Values that stand for those of each run: what round.yml knows.
MARKS = {"postfix_message_size": 10777000, "postfix_master": "3777 inet n - y - - smtpd", "dovecot_quota": "777G"}
USUAL = {"postfix_message_size": 52428800, "postfix_master": "", "dovecot_quota": "1G"}

#: On the host: the modules that plays have left, each with its arguments.
UNPACK = """
import glob, json, os, subprocess, sys
for file in glob.glob(os.path.expanduser("~/.ansible/tmp/*/AnsiballZ_transaction.py")):
    subprocess.check_output([sys.executable, file, "explode"])
    with open(os.path.join(os.path.dirname(file), "debug_dir", "args"), encoding="utf-8") as args:
        print(json.dumps([file, json.load(args)]))
"""


class Answer(t.NamedTuple):
    """What became of it: the exit code, whether it changed anything, all that it said, and its message in one line."""

    code: int
    changed: bool
    output: str
    message: str


class Captured:
    """The transaction of a role on a host, in a container."""

    def __init__(self, name: str, container: str, part: str) -> None:
        self._docker = ["docker", "exec", "--interactive", container]
        variables = json.dumps({"parts": [part], "rounds": [MARKS], "mail_accounts": PEOPLE})
        # in check mode, which changes nothing, and sends the module all the same
        options = ["--check", "--extra-vars", variables, SCENARIO / "parts.yml"]
        done = end(start("ansible-playbook", name, *options, ANSIBLE_KEEP_REMOTE_FILES="1"))
        assert done.code == 0, done.output
        left = subprocess.run([*self._docker, "python3", "-c", UNPACK], check=True, capture_output=True, text=True)
        for line in left.stdout.splitlines():
            file, arguments = json.loads(line)
            if arguments["ANSIBLE_MODULE_ARGS"]["name"] == part:
                self.file, self.arguments = file, json.dumps(arguments)

    def begin(self, *, check: bool = False, append: t.Mapping[str, str] = {}, **values: t.Any) -> subprocess.Popen[str]:
        """Run it, with the values of a round; and with lines at the end of files, the only ones for their parameter."""
        text = self.arguments
        for name, mark in MARKS.items():
            text = text.replace(str(mark), str(values.get(name, USUAL[name])))
        arguments = json.loads(text)
        arguments["ANSIBLE_MODULE_ARGS"]["_ansible_check_mode"] = check
        for file in arguments["ANSIBLE_MODULE_ARGS"]["files"]:
            lines = append.get(file["dest"], "")
            if file["dest"].endswith("/main.cf") and lines:
                name = re.escape(lines.partition(" = ")[0])
                file["content"] = re.sub(rf"^{name} = .*\n(?:[ \t].*\n)*", "", file["content"], flags=re.MULTILINE)
            if lines:
                file["content"] += lines + "\n"
        script = f"cat >{self.file.rpartition('/')[0]}/debug_dir/args && exec python3 {self.file} execute"
        process = subprocess.Popen(
            [*self._docker, "sh", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdin
        process.stdin.write(json.dumps(arguments))
        process.stdin.close()
        return process

    def run(self, *, check: bool = False, append: t.Mapping[str, str] = {}, **values: t.Any) -> Answer:
        """The same, to its end."""
        process = self.begin(check=check, append=append, **values)
        assert process.stdout
        output = process.stdout.read()
        print(output)
        code = process.wait()
        said = json.loads(output) if output.strip().startswith("{") else {}
        return Answer(code, bool(said.get("changed")), output, " ".join(str(said.get("msg", "")).split()))


@functools.lru_cache(maxsize=None)
def captured(name: str, container: str, part: str) -> Captured:
    """One for all tests of a host."""
    return Captured(name, container, part)
