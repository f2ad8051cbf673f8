#!/usr/bin/python
# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""See DOCUMENTATION."""

DOCUMENTATION = r"""
module: transaction
short_description: Change a daemon's configuration so that it works afterwards, or is as it was
version_added: 1.0.0
author:
  - The port587.mail contributors (@port587)
description:
  - Takes a tree of files, and in one run on the server validates it with the daemon's own checker (and looks up what
    that lets through), stages each file beside its place with owner and mode set, swaps them in by rename, reloads
    the daemon (restarts it only where a reload is not enough, starts it when it is stopped), and proves that it
    serves.
  - If anything fails before the swap, the live files were never touched. If it fails later, everything is put back
    (content, mode, owner, files that did not exist, whether the daemon ran) and the daemon's own words are in the
    message.
  - Files that an earlier run with the same O(name) wrote and that are not among O(files) any more are removed. Files
    of others in the same directories are left alone. A file that was there before the first run is kept once, below
    C(/var/lib/port587/<name>/original/).
  - A run that is killed leaves a journal; the next run puts everything back from it before it does its own work.
  - Only one such run changes a host at a time; a second one waits for O(lock_timeout).
  - What it has to know later lies below C(/var/lib/port587/). Where a file there is damaged, or was written by a newer
    version of this collection, nothing is changed, and the message says what to do.
options:
  name:
    description: Identity of this tree. Use the same name again for the same tree.
    type: str
    required: true
  files:
    description:
      - The tree. Each file is given by one of O(files[].src), O(files[].content) and O(files[].generate).
    type: list
    elements: dict
    required: true
    suboptions:
      src:
        description: >-
          File on the controller. One that ends in C(.j2) is a template, looked for as M(ansible.builtin.template) does;
          any other is copied as it is, and looked for as M(ansible.builtin.copy) does.
        type: str
      content:
        description: The text itself.
        type: str
      generate:
        description:
          - A private key for DKIM signatures, made on the server by rspamadm(1) where there is no such file yet, and
            kept as it is otherwise. It never leaves the server, and is never shown.
        type: str
        choices: [dkim-rsa-2048, dkim-rsa-4096, dkim-ed25519]
      dest:
        description: Absolute path on the server. By default O(files[].src) without C(.j2) and with a C(/) in front.
        type: path
      owner:
        description: Name of the owner.
        type: str
        default: root
      group:
        description: Name of the group.
        type: str
        default: root
      mode:
        description: Mode in octal digits, quoted.
        type: str
        default: "0644"
      secret:
        description: The file holds secrets. It is never shown.
        type: bool
        default: false
      map:
        description: The file is a Postfix lookup table. It is compiled with postmap(1), and both are replaced together.
        type: bool
        default: false
  secrets:
    description: >-
      Contents of the files with O(files[].secret), by path. Filled in on the controller, so that they are in no log.
    type: dict
    default: {}
  directories:
    description: Directories that have to exist.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path.
        type: path
        required: true
      owner:
        description: Name of the owner.
        type: str
        default: root
      group:
        description: Name of the group.
        type: str
        default: root
      mode:
        description: Mode in octal digits, quoted.
        type: str
        default: "0755"
  daemon:
    description:
      - The daemon that reads the tree, and that takes it over. Any unit of systemd can be one. What is not said here is
        what most daemons do.
      - Without it, files are changed and nothing is told of it.
    type: dict
    suboptions:
      unit:
        description: >-
          Name of its unit. It is enabled and started. A later run of the same O(name) without it stops and disables it.
        type: str
        required: true
      program:
        description: >-
          A command of its package. Where it is not there, the daemon is not installed, and nothing is changed. By
          default the name of O(daemon.unit).
        type: str
      kind:
        description:
          - V(service) is any daemon that reads its configuration once, when it starts; it is restarted after a change.
          - The others are checked by more than their own checkers, and reloaded where that is enough.
        type: str
        choices: [service, postfix, dovecot, nginx, rspamd]
        default: service
      check:
        description: Commands that validate files of the tree before anything is changed. For O(daemon.kind=service).
        type: list
        elements: dict
        default: []
        suboptions:
          file:
            description: Absolute path of the file. The command gets a copy.
            type: path
            required: true
          command:
            description: >-
              The command and its arguments. The path of the copy, in a directory of its own, is added at the end. An
              exit code other than 0 refuses the change, with all that the command says.
            type: list
            elements: str
            required: true
      listens:
        description: >-
          Ports that it needs, TCP or UDP. Where it does not run and another program has one, the change is refused. For
          O(daemon.kind=service).
        type: list
        elements: dict
        default: []
        suboptions:
          port:
            description: Number of the port.
            type: int
            required: true
          address:
            description: IP address.
            type: str
            default: 127.0.0.1
      refuse_foreign:
        description: >-
          Whether to refuse the change where the unit runs already and no file of the tree is there, so that somebody
          else has set it up. For O(daemon.kind=service).
        type: bool
        default: false
      replaces:
        description: >-
          Units that are disabled when O(daemon.unit) is enabled, unless they run, such as that of the package whose
          program it is. For O(daemon.kind=service).
        type: list
        elements: str
        default: []
  units:
    description:
      - Units of O(daemon), such as V(dovecot.service). Each gets a drop-in, a further file of the tree, by which
        systemd starts it again whatever ended it, and however often.
    type: list
    elements: str
    default: []
  prove:
    description:
      - What O(daemon) has to do after a change, tried on the server itself until it succeeds, for at most 20 seconds.
      - On a port with TLS a handshake is completed. Nobody logs in, and no mail is sent.
      - Without this, a daemon of O(daemon.kind=service) has to stay up for a second.
    type: list
    elements: dict
    default: []
    suboptions:
      protocol:
        description:
          - V(sasl), V(lmtp), V(policy), V(milter) and V(redis) are spoken on the UNIX socket O(prove[].path), and the
            others on O(prove[].port). V(policy) and V(http) are spoken on either.
          - V(dns) asks a resolver for the keys of the root, which it has to have validated.
          - V(command) runs O(prove[].command), for daemons that speak something else.
        type: str
        required: true
        choices: [smtp, imap, pop3, sieve, sasl, lmtp, policy, http, milter, socketmap, dns, redis, command]
      port:
        description: TCP port.
        type: int
      address:
        description: IP address to connect to.
        type: str
        default: 127.0.0.1
      tls:
        description: When TLS starts.
        type: str
        choices: [implicit, starttls, none]
        default: none
      auth:
        description: Whether AUTH has to be offered (inside TLS) or must not be. By default it isn't looked at.
        type: bool
      recipient:
        description: Address to name in RCPT.
        type: str
      answer:
        description: >-
          What the server has to say to O(prove[].recipient). A temporary refusal is neither. For V(milter), V(refused)
          is about a message of a login that nobody has.
        type: str
        choices: [accepted, refused]
      path:
        description: UNIX socket.
        type: path
      user:
        description: User who has to be able to connect to O(prove[].path).
        type: str
      host:
        description: >-
          The host to name in the TLS handshake (SNI), and for V(http) in the request. For V(socketmap) what to look up
          in the map C(postfix). Whether it is there makes no difference.
        type: str
      certificate:
        description: As O(certificate), for this one alone, such as that of the name in O(prove[].host).
        type: path
      rsa:
        description: >-
          To ask as a client does that knows RSA only, where O(prove[].certificate) has such a key: TLS 1.2, where the
          cipher says what kind of key.
        type: bool
        default: false
      uri:
        description: For V(http), what to GET. The answer has to be 200.
        type: str
        default: /
      command:
        description: >-
          For V(command), the command and its arguments. It has to end with exit code 0 within five seconds.
        type: list
        elements: str
      signatures:
        description: >-
          For V(milter), names of DKIM keys in DNS, all of one domain, such as C(rsa1._domainkey.example.com). A message
          from there, as a program of this machine sends it, has to be signed with each.
        type: list
        elements: str
        default: []
  certificate:
    description: PEM file whose first certificate has to be the one that is served on every port of O(prove) with TLS.
    type: path
  keep:
    description: >-
      A regular expression for whole paths. Files that an earlier run wrote and that are no longer wanted stay where it
      matches, and are taken again when they are wanted again. The run that leaves them says so.
    type: str
    default: ""
  lock_timeout:
    description: Seconds to wait for another run on the same host.
    type: int
    default: 120
  known:
    description: >-
      What M(port587.mail.server_info) said of this tree in the same play, as RV(port587.mail.server_info#module:trees)
      with O(name). Where that shows that everything is as it is wanted already, nothing is run on the server.
    type: dict
extends_documentation_fragment:
  - port587.mail.attributes
  - port587.mail.attributes.server
attributes:
  check_mode:
    support: full
    details:
      - The files are validated, too. Where the daemon is not installed yet, RV(not_validated) says so.
  diff_mode:
    support: full
    details:
      - One diff for each file, with secrets masked.
      - What lies there before the first run of this O(name), while O(daemon) is not running, came with its package.
        It is not shown, so that check mode on a bare host shows the same.
  idempotent:
    support: full
notes:
  - Needs Python 3.6 on the server and nothing else.
  - >-
    Sources: postconf(1), postfix(1), postmap(1), nginx(8), L(Dovecot's doveconf,https://doc.dovecot.org/), RFC 5321,
    RFC 4954.
"""

EXAMPLES = r"""
- name: Set up Postfix
  port587.mail.transaction:
    name: postfix
    daemon: {unit: postfix, kind: postfix}
    files:
      - src: etc/postfix/main.cf.j2
      - src: etc/postfix/master.cf.j2
      - src: etc/postfix/relay_passwords.j2
        mode: "0600"
        secret: true
        map: true
    certificate: /etc/port587/tls/combined.pem
    prove:
      - {protocol: smtp, port: 25, tls: starttls, auth: false}
      - {protocol: smtp, port: 587, tls: starttls, auth: true, recipient: postmaster@mail.example.com, answer: refused}

# In a role of your own, any daemon that systemd runs. Its templates are in the role's folder templates/.
- name: Install HAProxy
  ansible.builtin.apt:
    name: haproxy

- name: Configure HAProxy
  port587.mail.transaction:
    name: haproxy
    daemon:
      unit: haproxy
      check:
        - {file: /etc/haproxy/haproxy.cfg, command: [haproxy, -q, -c, -f]}
    files:
      - src: etc/haproxy/haproxy.cfg.j2
    units: [haproxy.service]
    prove:
      - {protocol: http, port: 8080, host: localhost, uri: /alive}

# A protocol that is not among those of prove
- name: Configure chrony
  port587.mail.transaction:
    name: chrony
    daemon:
      unit: chrony
      program: chronyd
    files:
      - src: etc/chrony/chrony.conf.j2
    prove:
      - {protocol: command, command: [chronyc, tracking]}

# Once no play configures it any more
- name: Stop HAProxy, and remove its files
  port587.mail.transaction:
    name: haproxy
    files: []
"""

RETURN = r"""
activated:
  description: What became of the daemon. Empty when there was nothing to do.
  type: dict
  returned: success
  sample: {postfix: reloaded}
not_validated:
  description: What could not be validated, and why.
  type: list
  elements: str
  returned: success
recovered:
  description: Whether an earlier run was interrupted and was taken back first.
  type: bool
  returned: success
originals:
  description: >-
    Copies of the files that somebody else had there, which this run has replaced. A warning says so, too.
  type: list
  elements: str
  returned: success
  sample: [/var/lib/port587/postfix/original/etc/postfix/main.cf]
kept:
  description: Files that stay although they are no longer wanted; see O(keep).
  type: list
  elements: str
  returned: success
problems:
  description: What the validation found.
  type: list
  elements: dict
  returned: when the tree is not valid
  sample: [{path: /etc/postfix/main.cf, line: 12, text: "unused parameter: mynetwork=x", template: "main.cf.j2 line 9"}]
rolled_back:
  description: Whether the change was made and taken back.
  type: bool
  returned: when the daemon failed after the change
daemon_log:
  description: Warnings and errors that the daemon logged since the change.
  type: list
  elements: str
  returned: when the daemon failed after the change
"""


import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.port587.mail.plugins.module_utils._daemons import arguments, kinds
from ansible_collections.port587.mail.plugins.module_utils._dns import dkim
from ansible_collections.port587.mail.plugins.module_utils._transaction import change as transaction


def _content(module: AnsibleModule, file: t.Dict[str, t.Any]) -> bytes:
    if not file["generate"]:
        return str(module.params["secrets"][file["dest"]] if file["secret"] else file["content"]).encode("utf-8")
    there = transaction.read_file(file["dest"])
    if there is not None or module.check_mode:
        return there or b""
    return dkim.new_key(file["generate"])


def main() -> None:
    module = AnsibleModule(argument_spec=arguments.ARGUMENTS, supports_check_mode=True)
    params = module.params
    try:
        wanted = arguments.wanted(params, lambda file: _content(module, file))
        result = transaction.run(
            params["name"],
            wanted.files,
            wanted.directories,
            wanted.activations,
            check_mode=module.check_mode,
            lock_timeout=params["lock_timeout"],
            keep=params["keep"],
            daemon_of=kinds.of,
        )
    except transaction.TransactionError as exc:
        module.fail_json(msg=exc.message, **exc.details)
    for line in result.not_validated:
        module.debug(line)
    said = result._asdict()
    for line in said.pop("warnings"):
        module.warn(line)
    if result.originals:
        module.warn("%s: what was there before is kept: %s" % (params["name"], ", ".join(result.originals)))
    if result.kept:
        module.warn("%s: no longer used, and kept: %s" % (params["name"], ", ".join(result.kept)))
    module.exit_json(**said)


if __name__ == "__main__":
    main()
