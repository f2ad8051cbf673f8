#!/usr/bin/python
# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""See DOCUMENTATION."""

DOCUMENTATION = r"""
module: transaction
short_description: Change a daemon's configuration, or roll back if the daemon fails
version_added: 1.0.0
author:
  - The port587.mail contributors (@port587)
description:
  - Installs a tree of files in one run on the server. Validates it with the daemon's own checker, and checks further
    values that this checker accepts; stages each file next to its destination with owner and mode set; swaps the files
    in by rename; reloads the daemon (restarts it only where a reload is not enough, starts it if it is stopped); and
    tests that it serves.
  - If a step before the swap fails, the live files were never touched. If a later step fails, everything is restored
    (content, mode, owner, files that did not exist, whether the daemon ran), and the message quotes the daemon.
  - Files that an earlier run with the same O(name) wrote and that are no longer among O(files) are removed. Other files
    in the same directories are left alone. A file that existed before the first run is saved once, below
    C(/var/lib/port587/<name>/original/), and put back when it is no longer among O(files). A copy of a file that
    somebody else has changed meanwhile is kept below C(/var/lib/port587/edited/).
  - A killed run leaves a journal. The next run first restores everything from it.
  - Only one transaction at a time changes a host; a second one waits for up to O(lock_timeout). If the environment
    variable E(PORT587_RUN) has RV(port587.mail.server_info#module:run), the change is refused if another play has
    changed the server since.
  - State is kept below C(/var/lib/port587/). If a file there is damaged, it is begun anew, a copy of it is kept, and a
    warning says so; an interrupted run is then taken back by the copies beside its files. If a file was written by a
    newer version of this collection, nothing is changed.
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
          File on the controller. A name that ends in C(.j2) is a template, found as M(ansible.builtin.template) finds
          its templates; any other file is copied unchanged, and found as M(ansible.builtin.copy) finds its files.
        type: str
      content:
        description: The content of the file.
        type: str
      generate:
        description:
          - A private key for DKIM signatures. rspamadm(1) generates it on the server if the file does not exist; an
            existing key is kept. The key never leaves the server, and is never shown.
        type: str
        choices: [dkim-rsa-2048, dkim-rsa-4096, dkim-ed25519]
      dest:
        description: Absolute path on the server. By default C(/) followed by O(files[].src) without C(.j2).
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
        description: Whether the file holds secrets. Its content is never shown.
        type: bool
        default: false
      map:
        description: Whether the file is a Postfix lookup table. postmap(1) compiles it, and both files are replaced
          together.
        type: bool
        default: false
  secrets:
    description: >-
      Contents of the files with O(files[].secret), by path. The controller fills this in, so that no log has them.
    type: dict
    default: {}
  directories:
    description: Directories to create if they do not exist.
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
      - The daemon that reads the files, and that is reloaded or restarted after a change. It can be any systemd
        service. The defaults suit most daemons.
      - Without this option files are changed, and no daemon is notified.
    type: dict
    suboptions:
      unit:
        description: >-
          Name of its systemd unit. The unit is enabled and started. A later run with the same O(name) but without this
          daemon stops and disables it, unless it ran before the first run or has configuration of others; then it is
          restarted.
        type: str
        required: true
      program:
        description: >-
          A command from the daemon's package. If it does not exist, the daemon is not installed, and nothing is
          changed. By default the name of O(daemon.unit).
        type: str
      kind:
        description:
          - V(service) is any daemon that reads its configuration only when it starts; it is restarted after a change.
          - The other kinds get further checks besides those of their own checkers, and are reloaded where that is
            enough.
        type: str
        choices: [service, postfix, dovecot, nginx, rspamd]
        default: service
      check:
        description: Commands that validate files before anything is changed. For O(daemon.kind=service).
        type: list
        elements: dict
        default: []
        suboptions:
          file:
            description: Absolute path of the file. The command checks a copy, beside which all O(files) lie.
            type: path
            required: true
          command:
            description: >-
              The command and its arguments. An argument that is the path of one of O(files) becomes the path of its
              copy, in a temporary directory; the copy of O(daemon.check[].file) is appended. An exit code other than 0
              refuses the change, and the message quotes the command's output.
            type: list
            elements: str
            required: true
      listens:
        description: >-
          Ports that the daemon needs, TCP or UDP. If the daemon is not running and another program uses one of them,
          the change is refused. For O(daemon.kind=service).
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
          Whether to refuse the change if the unit runs already and none of O(files) exists, which means that it was set
          up by other means. For O(daemon.kind=service).
        type: bool
        default: false
      replaces:
        description: >-
          Units to disable when O(daemon.unit) is enabled, unless they are running, such as the unit that the program's
          package brings. For O(daemon.kind=service).
        type: list
        elements: str
        default: []
  units:
    description:
      - Units of O(daemon), such as V(dovecot.service). Each gets a drop-in file, which makes systemd restart the unit
        whenever it ends, without a limit on restarts.
    type: list
    elements: str
    default: []
  prove:
    description:
      - Tests that O(daemon) must pass after a change. Each is repeated on the server until it succeeds, for at most 20
        seconds.
      - A test of a port with TLS completes a handshake. No test logs in or sends mail.
      - Without tests, a daemon of O(daemon.kind=service) must stay up for a second.
    type: list
    elements: dict
    default: []
    suboptions:
      protocol:
        description:
          - V(sasl), V(lmtp), V(policy), V(milter) and V(redis) use the UNIX socket O(prove[].path), the others
            O(prove[].port). V(policy), V(http) and V(fastcgi) can use either.
          - V(dns) asks a resolver for the root's keys; the answer must be validated with DNSSEC.
          - V(command) runs O(prove[].command), for daemons with another protocol.
        type: str
        required: true
        choices: [smtp, imap, pop3, sieve, sasl, lmtp, policy, http, fastcgi, milter, socketmap, dns, redis, command]
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
        description: Whether AUTH must be offered (inside TLS) or must not be. By default this is not checked.
        type: bool
      recipient:
        description: Address to name in RCPT.
        type: str
      answer:
        description: >-
          The answer that O(prove[].recipient) must get. A temporary refusal counts as neither. For V(milter),
          V(refused) tests a message sent with a login that does not exist.
        type: str
        choices: [accepted, refused]
      path:
        description: UNIX socket.
        type: path
      user:
        description: User that must be able to connect to O(prove[].path).
        type: str
      host:
        description: >-
          The host to name in the TLS handshake (SNI), and for V(http) in the request. For V(socketmap), the key to look
          up in the map C(postfix); an answer that it does not exist passes the test, too.
        type: str
      certificate:
        description: As O(certificate), for this test only, such as the certificate of O(prove[].host).
        type: path
      rsa:
        description: >-
          Whether to connect like a client that supports RSA only, if O(prove[].certificate) has an RSA key. Uses TLS
          1.2, where the cipher determines the kind of key.
        type: bool
        default: false
      uri:
        description: >-
          For V(http), the path to GET; for V(fastcgi), the absolute path of the script. The status must be 200.
        type: str
        default: /
      command:
        description: >-
          For V(command), the command and its arguments. It must end with exit code 0 within five seconds.
        type: list
        elements: str
      signatures:
        description: >-
          For V(milter), names of DKIM keys in DNS, all of one domain, such as C(rsa1._domainkey.example.com). A local
          message from that domain must be signed with each of them.
        type: list
        elements: str
        default: []
  certificate:
    description: PEM file. Every port of O(prove) with TLS must serve its first certificate.
    type: path
  keep:
    description: >-
      A regular expression that matches whole paths. Matching files of an earlier run are kept when they are no longer
      among O(files), and reused if they are added again. RV(kept) lists them.
    type: str
    default: ""
  lock_timeout:
    description: Seconds to wait for another run on the same host.
    type: int
    default: 120
  known:
    description: >-
      The entry for O(name) in RV(port587.mail.server_info#module:trees), which M(port587.mail.server_info) returned in
      the same play. If it shows that nothing has to change, nothing is run on the server.
    type: dict
extends_documentation_fragment:
  - port587.mail.attributes
  - port587.mail.attributes.server
attributes:
  check_mode:
    support: full
    details:
      - The files are validated, too. If the daemon is not installed yet, RV(not_validated) says so.
  diff_mode:
    support: full
    details:
      - One diff for each file, with secrets masked.
      - Files that exist before the first run of this O(name), while O(daemon) is not running, came with its package.
        They are not shown, so that check mode on a bare host shows the same diff.
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
        - {file: /etc/haproxy/haproxy.cfg, command: [haproxy, -c, -f]}
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

# After the play above was removed
- name: Stop HAProxy, and remove its files
  port587.mail.transaction:
    name: haproxy
    files: []
"""

RETURN = r"""
activated:
  description: What was done to each daemon, such as C(started) or C(reloaded). Empty if there was nothing to do.
  type: dict
  returned: success
  sample: {postfix: reloaded}
not_validated:
  description: Parts that could not be validated, each with the reason.
  type: list
  elements: str
  returned: success
recovered:
  description: Whether this run first rolled back an earlier, interrupted run.
  type: bool
  returned: success
originals:
  description: >-
    Copies of files from another source that this run has replaced. A warning names them, too.
  type: list
  elements: str
  returned: success
  sample: [/var/lib/port587/postfix/original/etc/postfix/main.cf]
restored:
  description: Files that have got back the content from before the first run, because they are no longer in O(files).
  type: list
  elements: str
  returned: success
edited:
  description: >-
    Copies of files that somebody else has changed and that this run has removed or restored. A warning names them, too.
  type: list
  elements: str
  returned: success
  sample: [/var/lib/port587/edited/etc/postfix/main.cf]
kept:
  description: Files that are kept although they are no longer among O(files); see O(keep).
  type: list
  elements: str
  returned: success
problems:
  description: The errors that the validation found.
  type: list
  elements: dict
  returned: when the files are not valid
  sample: [{path: /etc/postfix/main.cf, line: 12, text: "unused parameter: mynetwork=x", template: "main.cf.j2 line 9"}]
rolled_back:
  description: Whether the change was made and rolled back.
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
    if result.edited:
        module.warn("%s: changed by somebody else, and kept: %s" % (params["name"], ", ".join(result.edited)))
    if result.kept:
        module.warn("%s: no longer used, and kept: %s" % (params["name"], ", ".join(result.kept)))
    module.exit_json(**said)


if __name__ == "__main__":
    main()
