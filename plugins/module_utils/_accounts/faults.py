# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the controller and on the server: Python 3.6 and the standard library only.

"""Checks of single values. Each returns a complaint, which completes a sentence that begins with the value, or None.

No message repeats a value that may be a password.
"""

import functools
import re
import typing as t

# crypt(3) takes no more (CRYPT_MAX_PASSPHRASE_SIZE, with the terminating NUL).
LONGEST_PASSWORD = 511

#: So many characters at the beginning of an app password find its entry. They are stored readable.
BEGINS = 6
# What is secret then has 12 characters at least.
SHORTEST_APP_PASSWORD = 18
_BEGINS = re.compile(r"[A-Za-z0-9]{%d}\Z" % BEGINS)

# RFC 5321, 4.5.3.1.1.
_LONGEST_LOCAL = 64

# An account's local part is a login, a directory and a mailbox: only characters that Dovecot allows in user names.
_LOGIN = re.compile(r"[a-z0-9_][a-z0-9._-]*\Z", re.IGNORECASE)
# Other addresses at the beginning of a line in a Postfix table.
_KEY = re.compile(r"[a-z0-9_][a-z0-9._+='&~-]*\Z", re.IGNORECASE)
# Addresses elsewhere: RFC 5321's dot-string, with dots anywhere, as Japanese telephone companies have given them out;
# and its quoted string.
_ATEXT = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~.-]+\Z", re.IGNORECASE)
_QUOTED = re.compile(r'"(?:[ !#-\[\]-~]|\\[ -~])*"(?=@)')
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z", re.IGNORECASE)
# The form of nearly all addresses: only the domain is left to check.
_PLAIN = re.compile(r"[a-z0-9_]+(?:[.-][a-z0-9_]+)*@([a-z0-9.-]+)\Z", re.IGNORECASE | re.ASCII)
# A newline would start another line, a blank or a colon another field.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
QUOTA = re.compile(r"[1-9][0-9]{0,5}[KMGT]\Z", re.IGNORECASE)
_HASH = re.compile(r"\{([A-Za-z0-9-]+)(\.(?:b64|base64|hex))?\}([!-9;-~]+)\Z", re.IGNORECASE)

_CRYPT = r"[./0-9A-Za-z]"
_BASE64 = r"[+/0-9A-Za-z]+"
_ARGON2 = r"\$%s\$v=\d+\$m=\d+,t=\d+,p=\d+\$" + _BASE64 + r"\$" + _BASE64 + r"\Z"
#: The format of a scheme's data, where known: detects a truncated hash, or a wrong scheme name.
HASH_FORMATS = {
    "ARGON2ID": re.compile(_ARGON2 % "argon2id"),
    "ARGON2I": re.compile(_ARGON2 % "argon2i"),
    "BLF-CRYPT": re.compile(r"\$2[abxy]\$\d\d\$" + _CRYPT + r"{53}\Z"),
    "SHA512-CRYPT": re.compile(r"\$6\$(rounds=\d+\$)?[^$]{0,16}\$" + _CRYPT + r"{86}\Z"),
    "SHA256-CRYPT": re.compile(r"\$5\$(rounds=\d+\$)?[^$]{0,16}\$" + _CRYPT + r"{43}\Z"),
    "MD5-CRYPT": re.compile(r"\$1\$[^$]{0,8}\$" + _CRYPT + r"{22}\Z"),
    "PBKDF2": re.compile(r"\$1\$[^$]+\$\d+\$[0-9a-f]{40}\Z"),
}
#: Schemes that keep the password readable. The option ``password`` does the same and hashes it.
CLEAR_SCHEMES = ("CLEAR", "CLEARTEXT", "PLAIN", "PLAIN-TRUNC")


def domain_fault(domain: t.Any) -> t.Optional[str]:
    if not isinstance(domain, str) or not domain:
        return "is not a domain; write its name, as in example.com"
    return _name_fault(domain)


# thousands of addresses share a few domains
@functools.lru_cache(maxsize=1000)
def _name_fault(domain: str) -> t.Optional[str]:
    if CONTROL.search(domain) or re.search(r"\s", domain):
        return "holds a blank, a newline or a control character; a domain has none"
    if any(ord(letter) > 126 for letter in domain):
        try:
            spelled = "; for this one that is " + domain.encode("idna").decode("ascii").lower()
        except UnicodeError:
            spelled = ""
        return "has letters beyond ASCII; write the form that the DNS has, which begins with xn--" + spelled
    labels = domain.split(".")
    if len(labels) < 2 or len(domain) > 253 or labels[-1].isdigit() or not all(_LABEL.match(part) for part in labels):
        return "is not a domain; write its name, as in example.com"
    return None


def _address_fault(address: t.Any) -> t.Optional[str]:
    if not isinstance(address, str) or not address:
        return "is not an e-mail address; write local-part@domain"
    plain = _PLAIN.match(address)
    if plain and plain.start(1) <= _LONGEST_LOCAL + 1 and not _name_fault(plain.group(1)):
        return None
    wrong = _mailbox_fault(address)
    if wrong:
        return wrong
    local = address.split("@")[0]
    if '"' in local or "\\" in local:
        return "has a quoted local part; write one without quotes"
    if local.startswith(".") or local.endswith(".") or ".." in local:
        return "has a dot at the beginning or the end of its local part, or two in a row; leave it out"
    return None


def _mailbox_fault(address: str) -> t.Optional[str]:
    """Complaint about an address, for addresses of this and of other servers."""
    if CONTROL.search(address) or re.search(r"\s", address):
        return "holds a blank, a newline or a control character; write the address without it"
    if address.count("@") != 1 or address.startswith("@"):
        return "is not an e-mail address; write local-part@domain"
    local, domain = address.split("@")
    if any(ord(letter) > 126 for letter in local):
        return (
            "has letters beyond ASCII before the @; this server doesn't offer SMTPUTF8, so write it with ASCII letters"
        )
    if len(local) > _LONGEST_LOCAL:
        return "has more than 64 characters before the @; SMTP allows no more"
    wrong = domain_fault(domain)
    if wrong:
        return "has no valid domain: %s %s" % (show(domain), wrong)
    return None


def login_fault(address: t.Any) -> t.Optional[str]:
    wrong = _address_fault(address)
    if wrong:
        return wrong
    local = address.split("@")[0]
    if "+" in local:
        return "has a + before the @, where an extension begins: mail to eve+shop@ reaches eve@; leave it out"
    if not _LOGIN.match(local):
        return "can't be a login: before the @ use letters, digits and . _ - only, and begin with none of . and -"
    return None


def is_login(address: str) -> bool:
    return login_fault(address) is None


def key_fault(address: t.Any) -> t.Optional[str]:
    wrong = _address_fault(address)
    if wrong:
        return wrong
    if not _KEY.match(address.split("@")[0]):
        return (
            "can't be served: before the @ use letters, digits and . _ + = ' & ~ - only, and begin with no sign but _"
        )
    return None


def foreign_fault(address: t.Any) -> t.Optional[str]:
    """For an address of another server: some allow dots anywhere, and quotes allow the rest (RFC 5321)."""
    if not isinstance(address, str) or not address:
        return "is not an e-mail address; write local-part@domain"
    quoted = _QUOTED.match(address)
    if quoted:
        # the quoted part is valid, so only the rest is checked
        return _mailbox_fault("x" * len(quoted.group(0)) + address[quoted.end() :])
    wrong = _mailbox_fault(address)
    if wrong:
        return wrong
    if not _ATEXT.match(address.split("@")[0]):
        return "is not an e-mail address: before the @ is a character that mail allows in double quotes only"
    return None


def password_fault(password: t.Any) -> t.Optional[str]:
    if not isinstance(password, str):
        return "is %s, not text; put the password in quotes, or YAML changes it" % kind(password)
    if not password:
        return "is empty; give the account a password, or disable it with enabled: false"
    if CONTROL.search(password):
        return (
            "holds a newline or another control character, which no mail client can send; a file's last newline perhaps"
        )
    if len(password.encode("utf-8")) > LONGEST_PASSWORD:
        return "is longer than %d bytes, which no server can check; take a shorter one" % LONGEST_PASSWORD
    return None


def app_password_fault(password: t.Any) -> t.Optional[str]:
    """A password of which the first characters are no secret."""
    wrong = password_fault(password)
    if wrong:
        return wrong
    if len(password) < SHORTEST_APP_PASSWORD:
        return "has less than %d characters, of which the first %d are no secret; `openssl rand -hex 12` makes one" % (
            SHORTEST_APP_PASSWORD,
            BEGINS,
        )
    if begins_fault(password[:BEGINS]):
        return "has a sign among its first %d characters, which have to be letters and digits" % BEGINS
    return None


def begins_fault(value: t.Any) -> t.Optional[str]:
    if not isinstance(value, str):
        return "is %s, not text; put it in quotes" % kind(value)
    if not _BEGINS.match(value):
        return "is not %d letters and digits, the first ones of the password" % BEGINS
    return None


def hash_fault(value: t.Any) -> t.Optional[str]:
    if not isinstance(value, str):
        return "is %s, not text; write {SCHEME}data in quotes" % kind(value)
    if not value:
        return "is empty; write {SCHEME}data, as `doveadm pw` prints it"
    match = _HASH.match(value)
    if not match:
        guesses = [scheme for scheme, form in sorted(HASH_FORMATS.items()) if form.match(value)]
        if guesses:
            return "has no scheme in front; it looks like {%s}, so write it before the hash" % guesses[0]
        return "is not {SCHEME}data with neither blank nor colon, as `doveadm pw` prints it"
    scheme, encoding, data = match.group(1).upper(), match.group(2), match.group(3)
    if scheme in CLEAR_SCHEMES:
        return "is not hashed: {%s} keeps the password readable; give it as password" % scheme
    form = HASH_FORMATS.get(scheme)
    if form and not encoding and not form.match(data):
        return "is not a %s hash: what follows {%s} has another form; was it cut off, or is the scheme another?" % (
            scheme,
            scheme,
        )
    return None


def show(value: t.Any) -> str:
    """Format a value for a message; not for values that may be passwords."""
    if isinstance(value, (dict, list, tuple)):
        return kind(value)
    text = repr(str(value) if isinstance(value, str) else value)
    return text if len(text) <= 100 else text[:97] + "..."


def kind(value: t.Any) -> str:
    for of, name in ((bool, "a boolean"), ((int, float), "a number"), (dict, "a mapping"), ((list, tuple), "a list")):
        if isinstance(value, of):
            return name
    return "text" if isinstance(value, str) else "nothing" if value is None else "a " + type(value).__name__
