# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the controller and on the server: Python 3.6 and the standard library only.

"""Reading what a person says of a site's accounts: who has a mailbox, what forwards where, who may send as whom.

Reading never stops at the first mistake: a person gets all of them at once, each with the variable's path and what
would be right. What may be a password is never repeated in a message.
"""

import difflib
import functools
import itertools
import re
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._accounts import files
from ansible_collections.port587.mail.plugins.module_utils._accounts.files import Account, Alias, Site

ACCOUNT_KEYS = (
    "address",
    "password",
    "password_hash",
    "name",
    "aliases",
    "senders",
    "quota",
    "enabled",
    "send_only",
    "update_password",
)
ALIAS_KEYS = ("address", "to", "senders")

# crypt(3) takes no more (CRYPT_MAX_PASSPHRASE_SIZE, with the terminating NUL).
LONGEST_PASSWORD = 511

# NIST SP 800-63B: what is shorter is tried out.
SHORTEST_PASSWORD = 8
# The longer ones of those that are tried first.
_COMMON = """
    password password1 password12 password123 passw0rd p@ssw0rd p@ssword 12345678 123456789 1234567890
    0123456789 87654321 987654321 12341234 123123123 qwertyui qwertyuiop qwerty12 qwerty123 qwertz123 azerty123
    1q2w3e4r 1q2w3e4r5t 1qaz2wsx zaq12wsx q1w2e3r4 asdfghjk asdfghjkl abcdefgh abcd1234 abc12345 a1b2c3d4
    iloveyou sunshine princess football baseball superman starwars computer internet whatever trustno1 welcome1
    welcome123 letmein1 changeme changeme1 admin123 administrator master123 michelle jennifer mailserver
"""
COMMON_PASSWORDS = frozenset(_COMMON.split())

# RFC 5321, 4.5.3.1.1.
_LONGEST_LOCAL = 64

# An account's local part is a login, a directory and a mailbox: just what Dovecot lets into a user name.
_LOGIN = re.compile(r"[a-z0-9_][a-z0-9._-]*\Z", re.IGNORECASE)
# Other addresses that stand at the beginning of a line of a Postfix table.
_KEY = re.compile(r"[a-z0-9_][a-z0-9._+='&~-]*\Z", re.IGNORECASE)
# Addresses elsewhere: RFC 5321's dot-string, with dots anywhere, as Japanese telephone companies have given them out;
# and its quoted string.
_ATEXT = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~.-]+\Z", re.IGNORECASE)
_QUOTED = re.compile(r'"(?:[ !#-\[\]-~]|\\[ -~])*"(?=@)')
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z", re.IGNORECASE)
# What nearly all look like: nothing more than the domain is left to be looked at.
_PLAIN = re.compile(r"[a-z0-9_]+(?:[.-][a-z0-9_]+)*@([a-z0-9.-]+)\Z", re.IGNORECASE | re.ASCII)
# A newline would begin another line, a blank or a colon another field.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_QUOTA = re.compile(r"[1-9][0-9]{0,5}[KMGT]\Z", re.IGNORECASE)
_HASH = re.compile(r"\{([A-Za-z0-9-]+)(\.(?:b64|base64|hex))?\}([!-9;-~]+)\Z", re.IGNORECASE)

_CRYPT = r"[./0-9A-Za-z]"
_BASE64 = r"[+/0-9A-Za-z]+"
_ARGON2 = r"\$%s\$v=\d+\$m=\d+,t=\d+,p=\d+\$" + _BASE64 + r"\$" + _BASE64 + r"\Z"
#: How the data of a scheme looks, where that is known: catches a hash that was cut off, or that got the wrong name.
HASH_FORMATS = {
    "ARGON2ID": re.compile(_ARGON2 % "argon2id"),
    "ARGON2I": re.compile(_ARGON2 % "argon2i"),
    "BLF-CRYPT": re.compile(r"\$2[abxy]\$\d\d\$" + _CRYPT + r"{53}\Z"),
    "SHA512-CRYPT": re.compile(r"\$6\$(rounds=\d+\$)?[^$]{0,16}\$" + _CRYPT + r"{86}\Z"),
    "SHA256-CRYPT": re.compile(r"\$5\$(rounds=\d+\$)?[^$]{0,16}\$" + _CRYPT + r"{43}\Z"),
    "MD5-CRYPT": re.compile(r"\$1\$[^$]{0,8}\$" + _CRYPT + r"{22}\Z"),
    "PBKDF2": re.compile(r"\$1\$[^$]+\$\d+\$[0-9a-f]{40}\Z"),
}
#: What keeps the password readable. Given as ``password`` it is hashed, and nothing else is different.
CLEAR_SCHEMES = ("CLEAR", "CLEARTEXT", "PLAIN", "PLAIN-TRUNC")

#: More mistakes than this help nobody: a file of a hundred thousand lines may have one in each.
SHOWN_PROBLEMS = 50

UPDATE_PASSWORD = ("always", "on_create")

_WORDS = {"true": True, "yes": True, "false": False, "no": False}


Say = t.Callable[[str, str], None]
#: What a person wrote, with the place where it stands.
Entries = t.Iterable[t.Tuple[str, t.Any]]


# -- reading ------------------------------------------------------------------------------------------------------


def problems(domains: t.Any, accounts: t.Any, aliases: t.Any, hostname: t.Any, postmaster: t.Any) -> t.List[str]:
    """Everything that is wrong with a site's accounts; empty if nothing is."""
    return read(domains, accounts, aliases, hostname, postmaster)[1]


def read(
    domains: t.Any,
    accounts: t.Any,
    aliases: t.Any,
    hostname: t.Any,
    postmaster: t.Any,
    more: Entries = (),
    update_password: str = "always",
) -> t.Tuple[Site, t.List[str]]:
    """The site, and everything that is wrong with it. A site with problems lacks the entries that have them.

    ``more`` are accounts besides those of the variable, each with its place; ``update_password`` is that of accounts
    which don't say.
    """
    # a dict for its order: the same postmaster would be wrong for each domain
    found = {}  # type: t.Dict[str, None]

    def say(where: str, what: str) -> None:
        found["%s: %s" % (where, what)] = None

    own = _read_domains(domains, hostname, say)
    listed = _list("mail_accounts", accounts, "[{address: eve@example.com, password: ...}]", say)
    entries = (("mail_accounts[%d]" % number, entry) for number, entry in enumerate(listed))
    read_accounts = _read_accounts(itertools.chain(entries, more), set(own), update_password, say)
    read_aliases = _read_aliases(aliases, set(own), say)
    people = [account for _index, account in read_accounts]
    site = Site(own, people, [alias for _index, alias in read_aliases], _read_postmaster(postmaster, people, say))
    _check_owners(read_accounts, read_aliases, say)
    _check_logins(read_accounts, read_aliases, say)
    _check_routes(site, read_aliases, say)
    return site, list(found)


def told(found: t.Sequence[str]) -> str:
    """The problems in one message."""
    more = len(found) - SHOWN_PROBLEMS
    return "\n".join(found[:SHOWN_PROBLEMS]) + ("\nand %d more" % more if more > 0 else "")


def weakness(address: str, password: str) -> t.Optional[str]:
    """Why a password is guessed by whoever tries: the rest of a sentence that began with the address, or None."""
    folded = password.lower()
    # "eve" of eve@example.com, and "eve2026!": her name is no secret, and what stands beside it is too little
    rest = len(password) - len(address.split("@")[0])
    if folded == address or (folded.startswith(address.split("@")[0]) and rest < SHORTEST_PASSWORD):
        return "has its own name for a password, or little more"
    if len(password) < SHORTEST_PASSWORD:
        return "has a password of less than %d characters" % SHORTEST_PASSWORD
    if folded in COMMON_PASSWORDS or len(set(folded)) < 3:
        return "has one of the passwords that are tried first"
    return None


def _read_domains(domains: t.Any, hostname: t.Any, say: Say) -> t.List[str]:
    own = []  # type: t.List[str]
    entries = _list("mail_domains", domains, "[example.com]", say)
    if domains in (None, [], ()):
        say("mail_domains", "is empty; name at least one domain, as in [example.com]")
    for number, domain in enumerate(entries):
        where = "mail_domains[%d]" % number
        wrong = _domain_fault(domain)
        if wrong:
            say(where, "%s %s" % (_show(domain), wrong))
        elif domain.lower() in own:
            say(where, "%s is in the list twice; write it once" % _show(domain))
        else:
            own.append(domain.lower())
            if isinstance(hostname, str) and domain.lower() == hostname.lower():
                say(
                    where,
                    "%s is also mail_hostname; Postfix can't have one name both as its own and as a mail domain; "
                    "call the host mail.%s, or leave the name out of mail_domains" % (_show(domain), domain.lower()),
                )
    return own


def _read_accounts(
    entries: Entries, own: t.Container[str], update_password: str, say: Say
) -> t.List[t.Tuple[str, Account]]:
    found = []
    for where, entry in entries:
        if not _is_entry(where, entry, ACCOUNT_KEYS, "{address: eve@example.com, password: ...}", say):
            continue
        address = _own_address(where + ".address", entry.get("address"), own, _login_fault, say)
        password, password_hash = _read_password(where, entry, say)
        account = Account(
            address or "",
            password,
            password_hash,
            _read_name(where + ".name", entry.get("name"), say),
            _read_account_aliases(where + ".aliases", entry.get("aliases"), own, say),
            _addresses(where + ".senders", entry.get("senders"), _key_fault, say, whole_domain=True),
            _read_quota(where + ".quota", entry.get("quota"), say),
            _read_flag(where + ".enabled", entry.get("enabled"), True, say),
            _read_flag(where + ".send_only", entry.get("send_only"), False, say),
            _read_update(where + ".update_password", entry.get("update_password"), update_password, say),
        )
        if account.send_only and account.aliases:
            say(
                where + ".aliases",
                "%s is send_only and receives nothing; to send as these addresses put them into senders, "
                "to receive their mail elsewhere into mail_aliases" % _show(address or entry.get("address")),
            )
            account = account._replace(aliases=[])
        if address:
            found.append((where, account))
    return found


def _read_account_aliases(where: str, value: t.Any, own: t.Container[str], say: Say) -> t.List[str]:
    found = []
    for number, entry in enumerate(_list(where, value, "[info@example.com]", say)):
        place = "%s[%d]" % (where, number)
        if isinstance(entry, str) and entry.startswith("@"):
            say(place, "%s is a whole domain; a catch-all is an entry of mail_aliases" % _show(entry))
            continue
        address = _own_address(place, entry, own, _key_fault, say)
        if address:
            found.append(address)
    return found


def _read_aliases(aliases: t.Any, own: t.Container[str], say: Say) -> t.List[t.Tuple[str, Alias]]:
    found = []
    example = "{address: info@example.com, to: [eve@example.com]}"
    for number, entry in enumerate(_list("mail_aliases", aliases, "[%s]" % example, say)):
        where = "mail_aliases[%d]" % number
        if not _is_entry(where, entry, ALIAS_KEYS, example, say):
            continue
        address = _own_address(where + ".address", entry.get("address"), own, _key_fault, say, whole_domain=True)
        targets = entry.get("to")
        to = _addresses(where + ".to", targets, _foreign_fault, say)
        if targets is None or targets == []:
            say(where + ".to", "%s has no target; write to: [eve@example.com]" % _show(entry.get("address")))
        senders = _addresses(where + ".senders", entry.get("senders"), _login_fault, say)
        if address:
            found.append((where, Alias(address, to, senders)))
    return found


def _read_postmaster(postmaster: t.Any, accounts: t.List[Account], say: Say) -> str:
    if postmaster not in (None, ""):
        wrong = _foreign_fault(postmaster)
        if wrong:
            say("mail_postmaster", "%s %s" % (_show(postmaster), wrong))
            return ""
        return _fold(postmaster)
    receiving = [account.address for account in accounts if not account.send_only]
    if not receiving:
        say("mail_postmaster", "is not set, and no account receives mail in its place; write an address that does")
        return ""
    return receiving[0]


def _read_password(where: str, entry: t.Mapping[str, t.Any], say: Say) -> t.Tuple[t.Optional[str], t.Optional[str]]:
    password, password_hash = entry.get("password"), entry.get("password_hash")
    if password is None and password_hash is None:
        say(where, "%s has neither password nor password_hash; give it one of them" % _show(entry.get("address")))
    elif password is not None and password_hash is not None:
        say(where, "%s has both password and password_hash; give it one of them" % _show(entry.get("address")))
    if password is not None:
        wrong = _password_fault(password)
        if wrong:
            say(where + ".password", wrong)
            password = None
    if password_hash is not None:
        wrong = _hash_fault(password_hash)
        if wrong:
            say(where + ".password_hash", wrong)
            password_hash = None
    return password, password_hash


def _read_name(where: str, value: t.Any, say: Say) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        say(where, "%s is %s; put it in quotes" % (_show(value), _kind(value)))
        return ""
    if ":" in value or _CONTROL.search(value):
        say(where, "%s holds a colon, a newline or a control character; write the name without it" % _show(value))
        return ""
    return value


def _read_quota(where: str, value: t.Any, say: Say) -> t.Optional[str]:
    if value is None:
        return None
    if not isinstance(value, bool) and value in (0, "0"):
        return "0"
    if isinstance(value, str) and _QUOTA.match(value):
        return value.upper()
    say(where, "%s is not a size; write a whole number with K, M, G or T, as in 500M, or 0 for no limit" % _show(value))
    return None


def _read_flag(where: str, value: t.Any, default: bool, say: Say) -> bool:
    if value is None:
        return default
    if isinstance(value, bool):
        return value
    # what a template of a boolean becomes under older Ansible
    if isinstance(value, str) and value.lower() in _WORDS:
        return _WORDS[value.lower()]
    say(where, "%s is neither true nor false" % _show(value))
    return default


def _read_update(where: str, value: t.Any, default: str, say: Say) -> str:
    if value is None:
        return default
    if value in UPDATE_PASSWORD:
        return str(value)
    say(where, "%s is not one of %s" % (_show(value), ", ".join(UPDATE_PASSWORD)))
    return default


# -- what is wrong with one value: the rest of a sentence that began with the value, or None ------------------------


def _domain_fault(domain: t.Any) -> t.Optional[str]:
    if not isinstance(domain, str) or not domain:
        return "is not a domain; write its name, as in example.com"
    return _name_fault(domain)


# thousands of addresses share a few domains
@functools.lru_cache(maxsize=1000)
def _name_fault(domain: str) -> t.Optional[str]:
    if _CONTROL.search(domain) or re.search(r"\s", domain):
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
    """What is wrong with any address, wherever it is served."""
    if _CONTROL.search(address) or re.search(r"\s", address):
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
    wrong = _domain_fault(domain)
    if wrong:
        return "has no valid domain: %s %s" % (_show(domain), wrong)
    return None


def _login_fault(address: t.Any) -> t.Optional[str]:
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
    return _login_fault(address) is None


def _key_fault(address: t.Any) -> t.Optional[str]:
    wrong = _address_fault(address)
    if wrong:
        return wrong
    if not _KEY.match(address.split("@")[0]):
        return (
            "can't be served: before the @ use letters, digits and . _ + = ' & ~ - only, and begin with no sign but _"
        )
    return None


def _foreign_fault(address: t.Any) -> t.Optional[str]:
    """Of an address that others may serve: some let dots stand anywhere, and quotes allow all the rest (RFC 5321)."""
    if not isinstance(address, str) or not address:
        return "is not an e-mail address; write local-part@domain"
    quoted = _QUOTED.match(address)
    if quoted:
        # what the quotes hold is right, so only the rest is looked at
        return _mailbox_fault("x" * len(quoted.group(0)) + address[quoted.end() :])
    wrong = _mailbox_fault(address)
    if wrong:
        return wrong
    if not _ATEXT.match(address.split("@")[0]):
        return "is not an e-mail address: before the @ is a character that mail allows in double quotes only"
    return None


def _password_fault(password: t.Any) -> t.Optional[str]:
    if not isinstance(password, str):
        return "is %s, not text; put the password in quotes, or YAML changes it" % _kind(password)
    if not password:
        return "is empty; give the account a password, or disable it with enabled: false"
    if _CONTROL.search(password):
        return (
            "holds a newline or another control character, which no mail client can send; a file's last newline perhaps"
        )
    if len(password.encode("utf-8")) > LONGEST_PASSWORD:
        return "is longer than %d bytes, which no server can check; take a shorter one" % LONGEST_PASSWORD
    return None


def _hash_fault(value: t.Any) -> t.Optional[str]:
    if not isinstance(value, str):
        return "is %s, not text; write {SCHEME}data in quotes" % _kind(value)
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


# -- helpers of the readers ---------------------------------------------------------------------------------------


def _show(value: t.Any) -> str:
    if isinstance(value, (dict, list, tuple)):
        return _kind(value)
    text = repr(str(value) if isinstance(value, str) else value)
    return text if len(text) <= 100 else text[:97] + "..."


def _kind(value: t.Any) -> str:
    for kind, name in ((bool, "a boolean"), ((int, float), "a number"), (dict, "a mapping"), ((list, tuple), "a list")):
        if isinstance(value, kind):
            return name
    return "text" if isinstance(value, str) else "nothing" if value is None else "a " + type(value).__name__


def _fold(address: str) -> str:
    """Addresses are compared without regard to case, as Dovecot and Postfix do here."""
    return address.lower()


def _list(where: str, value: t.Any, example: str, say: Say) -> t.Sequence[t.Any]:
    if value is None:
        return []
    if isinstance(value, (list, tuple)):
        return value
    # the value isn't shown: in mail_accounts it may hold passwords
    say(where, "is %s, not a list; write %s" % (_kind(value), example))
    return []


def _is_entry(where: str, entry: t.Any, keys: t.Sequence[str], example: str, say: Say) -> bool:
    if not isinstance(entry, dict):
        say(where, "is %s, not a mapping; write %s" % (_kind(entry), example))
        return False
    for key in entry:
        if key not in keys:
            close = difflib.get_close_matches(str(key), keys, 1)
            hint = "did you mean %s?" % close[0] if close else "there are: %s" % ", ".join(keys)
            say("%s.%s" % (where, _CONTROL.sub("?", str(key))), "is unknown; %s" % hint)
    return True


def _own_address(
    where: str,
    value: t.Any,
    own: t.Container[str],
    fault: t.Callable[[t.Any], t.Optional[str]],
    say: Say,
    whole_domain: bool = False,
) -> t.Optional[str]:
    """An address that this server has to serve, so its domain has to be one of its own."""
    catch_all = whole_domain and isinstance(value, str) and value.startswith("@")
    wrong = _domain_fault(value[1:]) if catch_all else fault(value)
    if wrong:
        say(where, "is missing; write local-part@domain" if value is None else "%s %s" % (_show(value), wrong))
        return None
    domain = value.rpartition("@")[2].lower()
    if domain not in own:
        say(where, "%s is in none of mail_domains; add %s to them, or correct the address" % (_show(value), domain))
        return None
    return _fold(value)


def _addresses(
    where: str,
    value: t.Any,
    fault: t.Callable[[t.Any], t.Optional[str]],
    say: Say,
    whole_domain: bool = False,
) -> t.List[str]:
    found = []  # type: t.List[str]
    for number, entry in enumerate(_list(where, value, "[eve@example.com]", say)):
        catch_all = whole_domain and isinstance(entry, str) and entry.startswith("@")
        wrong = _domain_fault(entry[1:]) if catch_all else fault(entry)
        if wrong:
            say("%s[%d]" % (where, number), "%s %s" % (_show(entry), wrong))
        elif _fold(entry) not in found:
            found.append(_fold(entry))
    return found


# -- what only the whole shows ------------------------------------------------------------------------------------


def _check_owners(accounts: t.List[t.Tuple[str, Account]], aliases: t.List[t.Tuple[str, Alias]], say: Say) -> None:
    """Each address belongs to one entry. A send-only account receives nothing, so an alias may have its address."""
    owner = {}  # type: t.Dict[str, t.Tuple[str, bool]]

    def claim(where: str, address: str, alias: bool, cure: str, receives: bool = True) -> None:
        if address in owner and (not alias or owner[address][1]):
            say(where, "%s is already that of %s; %s" % (_show(address), owner[address][0], cure))
        else:
            owner[address] = (where, receives)

    for where, account in accounts:
        claim(where + ".address", account.address, False, "an address is one account's", not account.send_only)
    several = "for several targets write one entry of mail_aliases"
    for where, account in accounts:
        for number, address in enumerate(account.aliases):
            claim("%s.aliases[%d]" % (where, number), address, True, several)
    for where, alias in aliases:
        claim(where + ".address", alias.address, True, several)


def _check_logins(accounts: t.List[t.Tuple[str, Account]], aliases: t.List[t.Tuple[str, Alias]], say: Say) -> None:
    logins = {account.address for _index, account in accounts}
    for where, alias in aliases:
        for number, login in enumerate(alias.senders):
            if login not in logins:
                say(
                    "%s.senders[%d]" % (where, number),
                    "%s is no account; name the address of one, with which it logs in" % _show(login),
                )


def _check_routes(site: Site, aliases: t.List[t.Tuple[str, Alias]], say: Say) -> None:
    """Every target in a domain of this server's ends in a mailbox, and none comes back to where it began."""
    table = files.routes(site)
    mailboxes = files.receiving(site)
    domains = set(site.domains)
    places = {alias.address: where + ".to" for where, alias in aliases}
    for address in sorted(table):
        for target in table[address]:
            if files.ends_nowhere(table, mailboxes, domains, target):
                only_sends = any(target == account.address for account in site.accounts)
                say(
                    places.get(address, "mail_postmaster"),
                    "%s is send_only and receives nothing; name another address" % _show(target)
                    if only_sends
                    else "%s is neither an account nor an alias; correct it, or add the account" % _show(target),
                )
    for loop in files.loops(table, mailboxes):
        where = next((places[address] for address in loop if address in places), "mail_postmaster")
        say(where, "mail would go round for ever: %s" % " -> ".join(loop))


def unknown_schemes(site: Site, known: t.Iterable[str]) -> t.List[str]:
    """What is wrong with the given hashes in the eyes of a server whose Dovecot takes the ``known`` schemes."""
    found = []
    for account in site.accounts:
        scheme = (account.password_hash or "{}")[1:].split("}")[0].split(".")[0]
        if account.password_hash is not None and scheme.upper() not in known:
            found.append(
                "mail_accounts: the password_hash of %s has the scheme {%s}; this server's Dovecot takes %s"
                % (_show(account.address), scheme, ", ".join(sorted(known)))
            )
    return found
