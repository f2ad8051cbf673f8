# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Valid and invalid values of mail_domains, mail_accounts, mail_aliases and mail_postmaster, and the messages."""

import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._accounts import problems as account_problems
from ansible_collections.port587.mail.plugins.module_utils._accounts import read as read_accounts
from ansible_collections.port587.mail.plugins.module_utils._accounts.checks import check_schemes
from ansible_collections.port587.mail.plugins.module_utils._accounts.faults import is_login
from ansible_collections.port587.mail.plugins.module_utils._accounts.weak import weakness

#: What the roles call the options.
VARIABLES = {name: "mail_" + name for name in read_accounts.OPTIONS}
SECRET = "correct horse"
SHA512 = "{SHA512-CRYPT}$6$saltsalt$" + "x" * 86
EVE = {"address": "eve@example.com", "password": SECRET}
BOB = {"address": "bob@example.com", "password_hash": SHA512}
PHONE = {"name": "phone", "password": "phone1 " + SECRET}


def problems(
    accounts: t.Any = (EVE,),
    aliases: t.Any = (),
    domains: t.Any = ("example.com",),
    hostname: t.Any = "mail.example.com",
    postmaster: t.Any = "eve@example.com",
    shared: t.Any = (),
) -> t.List[str]:
    return read_accounts.read(domains, accounts, aliases, hostname, postmaster, variables=VARIABLES, shared=shared)[1]


def account(**fields: t.Any) -> t.Dict[str, t.Any]:
    return {key: value for key, value in dict(EVE, **fields).items() if value != "unset"}


def phone(**fields: t.Any) -> t.Dict[str, t.Any]:
    return {"app_passwords": [dict(PHONE, **fields)]}


def alias(address: t.Any = "info@example.com", to: t.Any = ("eve@example.com",), **fields: t.Any) -> t.Dict[str, t.Any]:
    return dict({"address": address, "to": list(to) if isinstance(to, tuple) else to}, **fields)


def only(found: t.List[str]) -> str:
    assert len(found) == 1, found
    return found[0]


# -- what is fine -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "password",
    [
        "a",
        " blanks at both ends ",
        "%d %s \" ' : \\ $ # { } {{ x }}",
        "Grüße ☃ 密码",
        "x" * 72 + "y",
        "x" * 511,
        "{SHA512-CRYPT}",
    ],
)
def test_any_text_is_a_password(password: str) -> None:
    assert problems([account(password=password)]) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"address": "Eve@Example.COM"},
        {"name": "Eve O'Hara-Müller, Dr."},
        {"name": None},
        {"aliases": ["info@example.com", "o'brien@example.com", "eve+bills@example.com"]},
        {"senders": ["@example.com", "eve@elsewhere.example"]},
        {"quota": 0},
        {"quota": "0"},
        {"quota": "500m"},
        {"enabled": False},
        {"enabled": "False"},
        {"language": "ja"},
        {
            "app_passwords": [
                PHONE,
                dict(PHONE, name="desk.1", password="a1B2c3" + "x" * 12, protocols=["sieve", "smtp"]),
            ]
        },
        {"app_passwords": [{"name": "x", "password_hash": SHA512, "begins": "abcdef", "expires": "2027-03-31"}]},
        {"password": None, "password_hash": SHA512},
        {"password": "unset", "password_hash": "{BLF-CRYPT}$2y$05$" + "x" * 53},
        {"password": "unset", "password_hash": "{SSHA256.HEX}0123456789abcdef"},
        {"password": "unset", "password_hash": "{argon2id}$argon2id$v=19$m=65536,t=3,p=1$c2FsdHNhbHQ$aGFzaA"},
    ],
)
def test_fields_of_an_account(fields: t.Dict[str, t.Any]) -> None:
    assert problems([account(**fields)]) == []


def test_aliases() -> None:
    aliases = [
        alias(
            "team@example.com",
            ("eve@example.com", "bob@example.com", "x@elsewhere.example"),
            senders=["bob@example.com"],
        ),
        alias("all@example.com", ("team@example.com", "eve+all@example.com")),
        alias("@example.net", ("nobody-knows@example.net", "info@example.com")),
        alias("info@example.com"),
        alias("nobody-knows@example.net", ("list+owner=x.org@elsewhere.example",)),
        alias("eve+shop@example.com", ("bob@example.com",)),
    ]
    assert problems([EVE, BOB], aliases, ["example.com", "example.net"]) == []


def test_an_alias_may_take_the_mail_of_a_send_only_account() -> None:
    printer = {"address": "printer@example.com", "password": SECRET, "send_only": True}
    assert problems([EVE, printer], [alias("printer@example.com")]) == []


def test_a_server_may_just_forward() -> None:
    assert problems([], [alias(to=("x@elsewhere.example",))], postmaster="x@elsewhere.example") == []


@pytest.mark.parametrize(
    ("password", "words"),
    [
        ("x", "less than 8 characters"),
        ("Abc!234", "less than 8 characters"),
        ("eve", "own name"),
        ("Eve@example.com", "own name"),
        ("EVE2026!", "own name"),
        ("Password1", "tried first"),
        ("aaaaaaaaaaaa", "tried first"),
        ("1212121212", "tried first"),
        ("evening at the sea", None),
        ("correct horse", None),
        ("12345679", None),
        ("\u5bc6\u7801\u5f88\u957f\u5f88\u957f\u7684\u54e6", None),
    ],
)
def test_weak_passwords(password: str, words: t.Optional[str]) -> None:
    said = weakness("eve@example.com", password)
    assert said is None if words is None else words in str(said)
    assert password not in str(said) or password == "x"


@pytest.mark.parametrize(
    "address",
    [
        "taro..y.@docomo.ne.jp",
        ".abc@ezweb.ne.jp",
        '"taro..y."@docomo.ne.jp',
        r'"two, \"words\" @ once"@x.example',
        "a.!#$%&'*+/=?^_`{|}~-@x.example",
    ],
)
def test_addresses_elsewhere_may_be_odd(address: str) -> None:
    assert problems([EVE], [alias(to=[address])]) == []
    assert problems([EVE], postmaster=address) == []


# -- what is not --------------------------------------------------------------------------------------------------

# what is given, and what the message has to name: path, value, what would be right
BAD_DOMAINS = [
    ("example.com", "mail_domains: is text, not a list; write [example.com]"),
    ([], "mail_domains: is empty; name at least one"),
    (None, "mail_domains: is empty; name at least one"),
    (["example.com", "Example.COM"], "mail_domains[1]: 'Example.COM' is in the list twice"),
    (["example.com", "localhost"], "mail_domains[1]: 'localhost' is not a domain"),
    (["example.com", "@example.net"], "mail_domains[1]: '@example.net' is not a domain"),
    (["example.com", "-x.example"], "mail_domains[1]: '-x.example' is not a domain"),
    (["example.com", "192.0.2.1"], "mail_domains[1]: '192.0.2.1' is not a domain"),
    (["example.com", "a" * 64 + ".example"], "is not a domain"),
    (["example.com", "ex ample.com"], "mail_domains[1]: 'ex ample.com' holds a blank"),
    (["example.com", "example.net\nx"], r"mail_domains[1]: 'example.net\nx' holds a blank, a newline"),
    (["example.com", "example.net\n"], r"mail_domains[1]: 'example.net\n' holds a blank, a newline"),
    (["example.com", "bücher.example"], "for this one that is xn--bcher-kva.example"),
    (["example.com", 5], "mail_domains[1]: 5 is not a domain"),
    (["example.com", None], "mail_domains[1]: None is not a domain"),
    (["example.com", "mail.example.com"], "mail_domains[1]: 'mail.example.com' is also mail_hostname"),
    (["example.com", "MAIL.example.com"], "mail_domains[1]: 'MAIL.example.com' is also mail_hostname"),
]


@pytest.mark.parametrize(("domains", "message"), BAD_DOMAINS)
def test_bad_domains(domains: t.Any, message: str) -> None:
    assert any(message in problem for problem in problems(domains=domains)), problems(domains=domains)


BAD_ACCOUNTS = [
    ({"address": "bobexample.com"}, "address: 'bobexample.com' is not an e-mail address; write local-part@domain"),
    ({"address": "@example.com"}, "address: '@example.com' is not an e-mail address"),
    ({"address": "eve@"}, "address: 'eve@' has no valid domain"),
    ({"address": "eve@x@example.com"}, "address: 'eve@x@example.com' is not an e-mail address"),
    ({"address": None}, "address: is missing; write local-part@domain"),
    ({"address": 5}, "address: 5 is not an e-mail address"),
    ({"address": True}, "address: True is not an e-mail address"),
    ({"address": {"a": SECRET}}, "address: a mapping is not an e-mail address"),
    ({"address": "eve@example.org"}, "address: 'eve@example.org' is in none of mail_domains; add example.org"),
    ({"address": "eve@[192.0.2.1]"}, "'[192.0.2.1]' is not a domain"),
    ({"address": "eve@bücher.example"}, "write the form that the DNS has, which begins with xn--"),
    ({"address": "ève@example.com"}, "doesn't offer SMTPUTF8"),
    ({"address": "eve+x@example.com"}, "address: 'eve+x@example.com' has a + before the @"),
    ({"address": '"eve x"@example.com'}, "holds a blank"),
    ({"address": '"eve"@example.com'}, "has a quoted local part"),
    ({"address": "eve @example.com"}, "holds a blank"),
    ({"address": "eve:x@example.com"}, "can't be a login"),
    ({"address": "eve/../x@example.com"}, "two in a row"),
    ({"address": "..@example.com"}, "has a dot at the beginning"),
    ({"address": "eve.@example.com"}, "has a dot at the beginning or the end"),
    ({"address": "-eve@example.com"}, "can't be a login"),
    ({"address": "#eve@example.com"}, "can't be a login"),
    ({"address": "e/ve@example.com"}, "can't be a login"),
    ({"address": "eve%x@example.com"}, "can't be a login"),
    ({"address": "eve@example.com\n"}, r"'eve@example.com\n' holds a blank, a newline"),
    ({"address": "eve\x00@example.com"}, r"'eve\x00@example.com' holds a blank, a newline or a control"),
    ({"address": "x" * 65 + "@example.com"}, "has more than 64 characters"),
    ({"password": ""}, "password: is empty"),
    ({"password": None}, "'eve@example.com' has neither password nor password_hash"),
    ({"password": "unset"}, "'eve@example.com' has neither password nor password_hash"),
    ({"password_hash": SHA512}, "'eve@example.com' has both password and password_hash"),
    ({"password": 12345}, "password: is a number, not text; put the password in quotes"),
    ({"password": True}, "password: is a boolean, not text"),
    ({"password": ["x"]}, "password: is a list, not text"),
    ({"password": SECRET + "\n"}, "password: holds a newline"),
    ({"password": SECRET + "\x00"}, "password: holds a newline or another control character"),
    ({"password": SECRET + "\ud800"}, "password: holds a newline or another control character"),
    ({"password": "x" * 512}, "password: is longer than 511 bytes"),
    ({"password": "ü" * 256}, "password: is longer than 511 bytes"),
    ({"name": "a:b"}, "name: 'a:b' holds a colon"),
    ({"name": "a\nb"}, r"name: 'a\nb' holds a colon, a newline"),
    ({"name": "a\u2028b"}, "name: "),
    ({"name": 5}, "name: 5 is a number; put it in quotes"),
    ({"aliases": "info@example.com"}, "aliases: is text, not a list; write [info@example.com]"),
    ({"aliases": ["info"]}, "aliases[0]: 'info' is not an e-mail address"),
    ({"aliases": ["info@example.org"]}, "aliases[0]: 'info@example.org' is in none of mail_domains"),
    (
        {"aliases": ["@example.com"]},
        "aliases[0]: '@example.com' is a whole domain; a catch-all is an entry of mail_aliases",
    ),
    ({"aliases": ["eve@example.com"]}, "aliases[0]: 'eve@example.com' is already that of mail_accounts[0].address"),
    (
        {"aliases": ["a@example.com", "A@example.com"]},
        "aliases[1]: 'a@example.com' is already that of mail_accounts[0].aliases[0]",
    ),
    ({"aliases": ["#x@example.com"]}, "aliases[0]: '#x@example.com' can't be served"),
    ({"aliases": ["a,b@example.com"]}, "aliases[0]: 'a,b@example.com' can't be served"),
    ({"aliases": ["a@example.com"], "send_only": True}, "aliases: 'eve@example.com' is send_only and receives nothing"),
    ({"senders": ["nobody"]}, "senders[0]: 'nobody' is not an e-mail address"),
    ({"senders": ["@x"]}, "senders[0]: '@x' is not a domain"),
    ({"senders": {"a": 1}}, "senders: is a mapping, not a list"),
    ({"quota": "1.5G"}, "quota: '1.5G' is not a size"),
    ({"quota": "1GB"}, "quota: '1GB' is not a size"),
    ({"quota": 1}, "quota: 1 is not a size; write a whole number with K, M, G or T"),
    ({"quota": False}, "quota: False is not a size"),
    ({"quota": "-1G"}, "quota: '-1G' is not a size"),
    ({"quota": "1G nologin"}, "quota: '1G nologin' is not a size"),
    ({"quota": "9999999T"}, "quota: '9999999T' is not a size"),
    ({"enabled": "maybe"}, "enabled: 'maybe' is neither true nor false"),
    ({"send_only": 2}, "send_only: 2 is neither true nor false"),
    ({"language": "fr"}, "language: 'fr' is not one of en, ja, de"),
    ({"app_passwords": SECRET}, "app_passwords: is text, not a list; write [{name: phone, password: ...}]"),
    ({"app_passwords": [SECRET]}, "app_passwords[0]: is text, not a mapping"),
    (phone(protocol=["imap"]), "app_passwords[0].protocol: is unknown; did you mean protocols?"),
    (phone(read_only=True), "app_passwords[0].read_only: is unknown; there are: name, password"),
    (phone(name=None), "app_passwords[0].name: is missing; write what uses this password"),
    (phone(name="My phone"), "app_passwords[0].name: 'My phone' is not a name; use up to 32 small letters"),
    (phone(name="a/b"), "app_passwords[0].name: 'a/b' is not a name"),
    (phone(name=3), "app_passwords[0].name: 3 is not a name"),
    (phone(password=None), "app_passwords[0]: 'phone' has neither password nor password_hash"),
    (phone(password_hash=SHA512), "app_passwords[0]: 'phone' has both password and password_hash"),
    (phone(password="x" * 17), "app_passwords[0].password: has less than 18 characters, of which the first 6"),
    (phone(password="pho-e " + SECRET), "app_passwords[0].password: has a sign among its first 6 characters"),
    (phone(password=123456789012345678), "app_passwords[0].password: is a number, not text"),
    (phone(begins="phone1"), "app_passwords[0].begins: is for a password_hash only"),
    (
        phone(password=None, password_hash=SHA512),
        "app_passwords[0].begins: is missing; with a password_hash write the first 6 characters",
    ),
    (
        phone(password=None, password_hash=SHA512, begins="phone1 " + SECRET),
        "app_passwords[0].begins: is not 6 letters and digits",
    ),
    (phone(password=None, password_hash=SHA512, begins=123456), "app_passwords[0].begins: is a number, not text"),
    (phone(password=None, password_hash="x", begins="phone1"), "app_passwords[0].password_hash: is not {SCHEME}data"),
    (phone(protocols="imap"), "app_passwords[0].protocols: is text, not a list; write [imap, smtp]"),
    (phone(protocols=["imap", "lmtp"]), "protocols[1]: 'lmtp' is not one of imap, pop3, smtp, sieve"),
    (phone(protocols=[]), "app_passwords[0].protocols: is empty; name what the password is for"),
    (phone(expires="31.3.2027"), "app_passwords[0].expires: '31.3.2027' is not a day; write it as in 2027-03-31"),
    (phone(expires="2027-02-30"), "app_passwords[0].expires: '2027-02-30' is not a day"),
    ({"app_passwords": [PHONE, dict(PHONE, password="other1" + SECRET)]}, "[1].name: 'phone' is in the list twice"),
    ({"app_passwords": [PHONE, dict(PHONE, name="desk")]}, "app_passwords[1]: begins with the same 6 characters"),
]


@pytest.mark.parametrize(("fields", "message"), BAD_ACCOUNTS)
def test_bad_accounts(fields: t.Dict[str, t.Any], message: str) -> None:
    found = only(problems([account(**fields)], postmaster="postmaster@elsewhere.example"))
    assert found.startswith("mail_accounts[0]")
    assert message in found
    assert SECRET not in found


BAD_HASHES = [
    ("", "is empty; write {SCHEME}data"),
    (5, "is a number, not text"),
    ("secret hash", "is not {SCHEME}data"),
    ("{SHA512-CRYPT}", "is not {SCHEME}data"),
    ("{SHA512-CRYPT}$6$salt$tooshort", "is not a SHA512-CRYPT hash"),
    ("{SHA512-CRYPT}" + "$2y$05$" + "x" * 53, "is not a SHA512-CRYPT hash"),
    ("{BLF-CRYPT}$2y$05$" + "x" * 52, "is not a BLF-CRYPT hash"),
    ("{SHA256-CRYPT}$5$salt$" + "x" * 42, "is not a SHA256-CRYPT hash"),
    ("{ARGON2ID}$argon2i$v=19$m=65536,t=3,p=1$c2FsdA$aGFzaA", "is not a ARGON2ID hash"),
    (SHA512[len("{SHA512-CRYPT}") :], "is not {SCHEME}data"),
    ("$6$saltsalt$" + "x" * 86, "it looks like {SHA512-CRYPT}"),
    ("$2b$12$" + "x" * 53, "it looks like {BLF-CRYPT}"),
    (SHA512 + "\n", "is not {SCHEME}data"),
    ("{SSHA}a:b", "is not {SCHEME}data with neither blank nor colon"),
    ("{SSHA}a b", "is not {SCHEME}data with neither blank nor colon"),
    ("{PLAIN}secret", "is not hashed: {PLAIN} keeps the password readable; give it as password"),
    ("{clear}secret", "is not hashed: {CLEAR}"),
    ("{PLAIN.b64}c2VjcmV0", "is not hashed: {PLAIN}"),
]


@pytest.mark.parametrize(("value", "message"), BAD_HASHES)
def test_bad_hashes(value: t.Any, message: str) -> None:
    found = only(problems([account(password="unset", password_hash=value)]))
    assert found.startswith("mail_accounts[0].password_hash: ")
    assert message in found or "it looks like" in found
    assert "secret" not in found
    assert "saltsalt" not in found
    assert "x" * 10 not in found


BAD_ALIASES = [
    (alias(to=[]), "mail_aliases[0].to: 'info@example.com' has no target"),
    ({"address": "info@example.com"}, "mail_aliases[0].to: 'info@example.com' has no target"),
    (alias(to="eve@example.com"), "mail_aliases[0].to: is text, not a list; write [eve@example.com]"),
    (alias(to=["eve"]), "mail_aliases[0].to[0]: 'eve' is not an e-mail address"),
    (alias(to=[None]), "mail_aliases[0].to[0]: None is not an e-mail address"),
    (alias(to=["@elsewhere.example"]), "mail_aliases[0].to[0]: '@elsewhere.example' is not an e-mail address"),
    (alias(to=["a@x.example, b@x.example"]), "holds a blank"),
    (alias(to=["a@x.example,b@x.example"]), "is not an e-mail address"),
    (alias(to=["|cat,x@x.example"]), "before the @ is a character that mail allows in double quotes only"),
    (alias(to=['"a@x.example']), "before the @ is a character that mail allows in double quotes only"),
    (alias(to=['"a"b"@x.example']), "before the @ is a character that mail allows in double quotes only"),
    (alias(to=['"a\nb"@x.example']), "holds a blank, a newline"),
    (alias(to=['"a b"@x']), "'x' is not a domain"),
    (alias(to=['"%s"@x.example' % ("x" * 63)]), "has more than 64 characters"),
    (alias(to=["a..b@example.com"]), "mail_aliases[0].to: 'a..b@example.com' is neither an account nor an alias"),
    (alias(to=["gone@example.com"]), "mail_aliases[0].to: 'gone@example.com' is neither an account nor an alias"),
    (
        alias(to=["info@example.com"]),
        "mail_aliases[0].to: mail would go round in a loop: info@example.com -> info@example.com",
    ),
    (alias("info"), "mail_aliases[0].address: 'info' is not an e-mail address"),
    (alias("info@example.org"), "mail_aliases[0].address: 'info@example.org' is in none of mail_domains"),
    (alias("@example.org"), "mail_aliases[0].address: '@example.org' is in none of mail_domains"),
    (alias("@"), "mail_aliases[0].address: '@' is not a domain"),
    (
        alias("eve@example.com", ["x@x.example"]),
        "mail_aliases[0].address: 'eve@example.com' is already that of mail_accounts[0].address",
    ),
    (
        alias("EVE@example.com", ["x@x.example"]),
        "mail_aliases[0].address: 'eve@example.com' is already that of mail_accounts[0].address",
    ),
    (alias("in fo@example.com"), "holds a blank"),
    (alias("info@example.com\neve@example.com x"), "holds a blank, a newline"),
    (alias("info\nx@example.com"), "holds a blank, a newline"),
    (alias(senders=["gone@example.com"]), "mail_aliases[0].senders[0]: 'gone@example.com' is not an account"),
    (alias(senders="eve@example.com"), "mail_aliases[0].senders: is text, not a list"),
    (alias(sender=[]), "mail_aliases[0].sender: is unknown; did you mean senders?"),
    ("info@example.com", "mail_aliases[0]: is text, not a mapping"),
]


@pytest.mark.parametrize(("entry", "message"), BAD_ALIASES)
def test_bad_aliases(entry: t.Any, message: str) -> None:
    assert message in only(problems(aliases=[entry]))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("postmaster", "mail_postmaster: 'postmaster' is not an e-mail address"),
        (5, "mail_postmaster: 5 is not an e-mail address"),
        ("gone@example.com", "mail_postmaster: 'gone@example.com' is neither an account nor an alias"),
        (
            "postmaster@example.com",
            "mail_postmaster: mail would go round in a loop: postmaster@example.com -> postmaster@example.com",
        ),
    ],
)
def test_bad_postmaster(value: t.Any, message: str) -> None:
    assert message in only(problems(postmaster=value))


def test_somebody_has_to_be_postmaster() -> None:
    sender = account(send_only=True)
    assert "mail_postmaster: is not set" in only(problems([], postmaster=""))
    assert "mail_postmaster: is not set" in only(problems([sender], postmaster=None))


def test_two_accounts_with_one_address() -> None:
    other = account(address="EVE@Example.com", send_only=True)
    assert only(problems([EVE, other])).startswith(
        "mail_accounts[1].address: 'eve@example.com' is already that of mail_accounts[0]"
    )
    assert only(problems([other, EVE])).startswith(
        "mail_accounts[1].address: 'eve@example.com' is already that of mail_accounts[0]"
    )


def test_one_alias_for_two_accounts() -> None:
    found = problems([account(aliases=["info@example.com"]), dict(BOB, aliases=["info@example.com"])])
    assert (
        "mail_accounts[1].aliases[0]: 'info@example.com' is already that of mail_accounts[0].aliases[0]; for several"
        in only(found)
    )
    found = problems([account(aliases=["info@example.com"])], [alias("info@example.com", ("x@x.example",))])
    assert "mail_aliases[0].address: 'info@example.com' is already that of mail_accounts[0].aliases[0]" in only(found)


def test_two_aliases_for_a_send_only_account() -> None:
    printer = {"address": "printer@example.com", "password": SECRET, "send_only": True}
    found = problems([EVE, printer], [alias("printer@example.com"), alias("printer@example.com")])
    assert only(found).startswith(
        "mail_aliases[1].address: 'printer@example.com' is already that of mail_aliases[0].address"
    )


def test_a_target_that_only_sends() -> None:
    printer = {"address": "printer@example.com", "password": SECRET, "send_only": True}
    found = only(problems([EVE, printer], [alias(to=["printer@example.com"])]))
    assert found.startswith("mail_aliases[0].to: 'printer@example.com' is send_only and receives nothing")


def test_loops_are_named() -> None:
    aliases = [
        alias("a@example.com", ("b@example.com", "eve@example.com")),
        alias("b@example.com", ("C@example.com",)),
        alias("c@example.com", ("a+x@example.com",)),
    ]
    found = only(problems(aliases=aliases))
    way = "a@example.com -> b@example.com -> c@example.com -> a@example.com"
    assert found == "mail_aliases[0].to: mail would go round in a loop: " + way


def test_loops_through_catch_alls() -> None:
    aliases = [alias("@example.com", ("x@example.net",)), alias("@example.net", ("y@example.com",))]
    found = only(problems(aliases=aliases, domains=["example.com", "example.net"]))
    assert "@example.com -> @example.net -> @example.com" in found
    assert problems(aliases=[alias("@example.com", ("eve@example.com",))]) == []


def test_a_long_chain_of_aliases_is_no_loop() -> None:
    chain = [alias("a%d@example.com" % n, ("a%d@example.com" % (n + 1),)) for n in range(5000)]
    assert problems(aliases=[*chain, alias("a5000@example.com")]) == []


@pytest.mark.parametrize("key", ["pasword", "passwort", "Password", "x\ny"])
def test_unknown_keys(key: str) -> None:
    found = only(problems([account(**{key: SECRET})]))
    assert found.startswith("mail_accounts[0].%s: is unknown; " % key.replace("\n", "?"))
    assert SECRET not in found
    assert key == "x\ny" or "did you mean password?" in found


@pytest.mark.parametrize("entry", ["eve@example.com:%s" % SECRET, None, 5, [SECRET]])
def test_an_account_that_is_no_mapping_is_not_repeated(entry: t.Any) -> None:
    found = only(problems([EVE, entry]))
    assert "mail_accounts[1]: is " in found
    assert "not a mapping" in found
    assert SECRET not in found


@pytest.mark.parametrize("accounts", [EVE, "eve@example.com:%s" % SECRET, 5])
def test_accounts_that_are_no_list_are_not_repeated(accounts: t.Any) -> None:
    found = problems(accounts, postmaster="x@x.example")
    assert "not a list" in only(found)
    assert SECRET not in found[0]


def test_all_problems_at_once() -> None:
    found = problems(
        [account(address="bob"), account(password=""), account(address="x@example.org", quota="big")],
        [alias(to=[])],
        ["example.com", "bad domain"],
    )
    assert [problem.split(":")[0] for problem in found] == [
        "mail_domains[1]",
        "mail_accounts[0].address",
        "mail_accounts[1].password",
        "mail_accounts[2].address",
        "mail_accounts[2].quota",
        "mail_aliases[0].to",
    ]


# -- entries of a file --------------------------------------------------------------------------------------------


def test_entries_of_a_file_are_named_by_their_line() -> None:
    more = [
        ("a.csv line 2", {"address": "Eve@example.com", "password": SECRET}),
        ("a.csv line 3", {"address": "müller@example.com", "password": SECRET}),
        ("a.csv line 4", {"address": "BOB@example.com", "password": SECRET, "update_password": "never"}),
    ]
    site, found = read_accounts.read(["example.com"], [EVE, BOB], [], "", "", more, variables=VARIABLES)
    assert found == [
        "a.csv line 3.address: 'müller@example.com' has letters beyond ASCII before the @; this server doesn't offer "
        "SMTPUTF8, so write it with ASCII letters",
        "a.csv line 4.update_password: 'never' is not one of always, on_create",
        "a.csv line 2.address: 'eve@example.com' is already that of mail_accounts[0].address; "
        "an address is one account's",
        "a.csv line 4.address: 'bob@example.com' is already that of mail_accounts[1].address; "
        "an address is one account's",
    ]
    assert site.postmaster == "eve@example.com"


def test_what_an_account_does_not_say_of_its_password() -> None:
    entries = [EVE, dict(BOB, update_password="always")]
    site, _ = read_accounts.read(["example.com"], entries, [], "", "", (), "on_create")
    assert [account.update_password for account in site.accounts] == ["on_create", "always"]


def test_many_mistakes_are_not_all_told() -> None:
    found = problems([EVE] + [account(address="nobody%d" % number) for number in range(1000)])
    assert len(found) == 1000
    text = account_problems.as_message(found)
    assert len(text.splitlines()) == account_problems.SHOWN_PROBLEMS + 1
    assert text.endswith("and 950 more")


def test_a_login_that_leads_elsewhere_is_none() -> None:
    assert is_login("eve@example.com")
    for name in ("../../etc@example.com", "eve@../../etc", "eve@", "@example.com", "/@example.com", ".@example.com"):
        assert not is_login(name)


# -- schemes, which only the server can judge ---------------------------------------------------------------------


def test_schemes_that_the_server_does_not_know() -> None:
    accounts = [
        BOB,
        account(password="unset", password_hash="{ssha256.HEX}00"),
        account(address="a@example.com", password=None, password_hash="{X-1}x"),
    ]
    site, found = read_accounts.read(["example.com"], accounts, [], "", "")
    assert found == []
    wrong = account_problems.Problems(VARIABLES)
    check_schemes(site, ["SSHA256", "SHA512-CRYPT"], wrong)
    unknown = only(wrong.all())
    assert unknown.startswith("mail_accounts: ")
    assert "'a@example.com'" in unknown
    assert "has the scheme {X-1}" in unknown
    assert "takes SHA512-CRYPT, SSHA256" in unknown


def test_a_mistake_is_named_by_the_option_unless_a_role_sets_it() -> None:
    found = read_accounts.read([], [EVE], [alias("@x")], "", "")[1]
    assert [problem.split(":")[0] for problem in found] == [
        "domains",
        "accounts[0].address",
        "aliases[0].address",
        "postmaster",
    ]


# -- shared mailboxes ---------------------------------------------------------------------------------------------


def team(**fields: t.Any) -> t.List[t.Dict[str, t.Any]]:
    one = {"name": "team", "address": "team@example.com", "members": {"eve@example.com": "write"}}
    return [{key: value for key, value in dict(one, **fields).items() if value != "unset"}]


@pytest.mark.parametrize(
    "fields",
    [{}, {"address": "unset"}, {"quota": "1G"}, {"members": {"EVE@example.com": "read"}}, {"name": "team_2-b"}],
)
def test_a_good_shared_mailbox(fields: t.Dict[str, t.Any]) -> None:
    assert problems(shared=team(**fields)) == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"name": "unset"},
            "mail_shared[0].name: is missing; write what its folder is called in mail clients, as in team",
        ),
        (
            {"name": "The Team"},
            "mail_shared[0].name: 'The Team' is not a name; use up to 32 small letters, digits and _ -",
        ),
        ({"name": "a.b"}, "mail_shared[0].name: 'a.b' is not a name"),
        (
            {"address": "eve@example.com"},
            "mail_shared[0].address: 'eve@example.com' is already that of mail_accounts[0]",
        ),
        (
            {"address": "team@elsewhere.example"},
            "mail_shared[0].address: 'team@elsewhere.example' is in none of mail_domains",
        ),
        ({"members": "unset"}, "mail_shared[0].members: 'team' has no members; write {eve@example.com: write"),
        ({"members": {}}, "mail_shared[0].members: 'team' has no members"),
        ({"members": ["eve@example.com"]}, "mail_shared[0].members: is a list, not a mapping"),
        ({"members": {"kim@example.com": "read"}}, "mail_shared[0].members: 'kim@example.com' is not an account"),
        ({"members": {"kim": "read"}}, "mail_shared[0].members: 'kim' is not an e-mail address"),
        (
            {"members": {"eve@example.com": "all"}},
            "mail_shared[0].members.eve@example.com: 'all' is not one of read, write",
        ),
        ({"quota": "much"}, "mail_shared[0].quota: 'much' is not a size"),
        ({"member": {}}, "mail_shared[0].member: is unknown; did you mean members?"),
    ],
)
def test_a_bad_shared_mailbox(fields: t.Dict[str, t.Any], message: str) -> None:
    assert only(problems(shared=team(**fields))).startswith(message)


def test_names_of_shared_mailboxes_differ() -> None:
    assert "'team' is in the list twice" in only(problems(shared=team() + team(address="unset")))
    found = only(problems(aliases=[alias("team@example.com")], shared=team()))
    assert found.startswith("mail_shared[0].address: 'team@example.com' is already that of mail_aliases[0].address")
