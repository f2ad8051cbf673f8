# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What mail clients, daemons or the authority would refuse in the variables of role certificates.

That includes the files on the controller which the variables name. A key appears in no message.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import ipaddress
import pathlib
import re
import typing as t

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.port587.mail.plugins.module_utils._certificate.acme import DIRECTORIES
from ansible_collections.port587.mail.plugins.module_utils._certificate.certificate import (
    certificates,
    covers,
    name_trouble,
    private_key,
)

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID
except ImportError as error:
    # ansible-core depends on it; ansible-test imports plugins without
    NO_CRYPTOGRAPHY: ImportError | None = error
else:
    NO_CRYPTOGRAPHY = None

ACME = "certificates_acme"
CHAIN = "certificates_files_chain"
KEY = "certificates_files_key"
SNI = "certificates_sni"
SNI_FILES = "certificates_files_sni"

#: A private CA may be asked for more than the 398 days of public ones, but Apple's clients take no more than this.
DAYS = range(60, 826)

_DATE = "%Y-%m-%d %H:%M UTC"
_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}


def problems(action: ActionBase, value: t.Callable[[str], t.Any]) -> t.Iterator[str]:
    """What is wrong with the variables, and with what is in the files."""
    if NO_CRYPTOGRAPHY:
        raise AnsibleActionFail("the check of certificates needs the Python package cryptography") from NO_CRYPTOGRAPHY

    def read(path: t.Any) -> str:
        """A file's text, decrypted; empty where it can't be read."""
        try:
            found = action._loader.get_real_file(action._find_needle("files", path)) if path else ""
            return pathlib.Path(found).read_text(encoding="utf-8", errors="surrogateescape") if found else ""
        except (AnsibleError, OSError):
            return ""

    files, acme = value("certificates_source") == "files", value("certificates_source") == "acme"
    sni_paths = {
        name: paths for name, paths in value("certificates_files_sni").items() if files and isinstance(paths, dict)
    }
    yield from problems_of(
        {
            **{
                name: value(f"certificates_{name}")
                for name in ("source", "hostname", "names", "sni", "key_type", "days")
            },
            "sni_paths": value("certificates_files_sni"),
            "sni_chains": {name.lower(): read(paths.get("chain")) for name, paths in sni_paths.items()},
            "sni_keys": {name.lower(): read(paths.get("key")) for name, paths in sni_paths.items()},
            "chain_path": value("certificates_files_chain"),
            "chain": read(value("certificates_files_chain")) if files else "",
            "key_path": value("certificates_files_key"),
            "key": read(value("certificates_files_key")) if files else "",
            "acme": {
                **{name: value(f"{ACME}_{name}") for name in ("email", "directory", "challenge", "nsupdate")},
                "ca_path": value(f"{ACME}_ca"),
                "ca": read(value(f"{ACME}_ca")) if acme else "",
                "hook_path": value(f"{ACME}_hook"),
                "hook": read(value(f"{ACME}_hook")) if acme else "",
            },
        }
    )


def problems_of(settings: dict[str, t.Any]) -> t.Iterator[str]:
    """The same, of all that is given: for each file its path, as `chain_path`, and its text, as `chain`."""
    names = [settings["hostname"], *settings["names"]]
    for position, name in enumerate(names):
        trouble = name_trouble(name, wildcard=position > 0)
        if trouble:
            yield f"{'certificates_names' if position else 'certificates_hostname'}: {name!r}: {trouble}."
    yield from _problems_of_sni(settings)
    if settings["source"] == "files":
        if settings["key_type"] == "both":
            yield (
                "certificates_key_type: both would not be used, as certificates_source is files, "
                "with one certificate of the kind that you bring: remove this."
            )
        yield from _problems_of_files(settings, names)
        return
    if settings["source"] == "acme":
        yield from _problems_of_acme(settings["acme"], names)
    # up to ansible-core 2.18 a template in a dictionary gives text
    if int(settings["days"]) not in DAYS:
        yield (
            f"certificates_days: {settings['days']}: give {DAYS[0]} to {DAYS[-1]}. "
            "A certificate is renewed when 30 days are left, and some clients take none that is valid for longer."
        )
    for variable, path in ((CHAIN, settings["chain_path"]), (KEY, settings["key_path"])):
        if path:
            yield (
                f"{variable}: {path} would not be used, as certificates_source is {settings['source']}: "
                "set that to files, or remove this."
            )


def _problems_of_sni(settings: dict[str, t.Any]) -> t.Iterator[str]:
    names: list[str] = []
    for name in settings["sni"]:
        trouble = name_trouble(name)
        if name.lower() in [settings["hostname"].lower(), *names]:
            trouble = "it has a certificate already, as the mail host's own name or by being named twice"
        if trouble:
            yield f"{SNI} (by default mail_sni): {name!r}: {trouble}."
        names.append(name.lower())
    files = settings["source"] == "files"
    given = {name.lower(): paths for name, paths in settings["sni_paths"].items()}
    for name in given:
        if not files:
            yield f"{SNI_FILES}: would not be used, as certificates_source is {settings['source']}: remove it."
            return
        if name not in names:
            yield f"{SNI_FILES}: {name} would not be used: add it to mail_sni, or remove this."
    for name in dict.fromkeys(names) if files else ():
        paths = given.get(name)
        if not isinstance(paths, dict) or {"chain", "key"} - set(paths):
            yield f"{SNI_FILES}: give for {name}, which is in {SNI}, the paths of chain and key on the controller."
            continue
        of_one = {
            "chain_path": paths["chain"],
            "chain": settings["sni_chains"].get(name, ""),
            "key_path": paths["key"],
            "key": settings["sni_keys"].get(name, ""),
        }
        yield from _problems_of_files(of_one, [name], f"{SNI_FILES}: {name}: chain", f"{SNI_FILES}: {name}: key")


def _problems_of_acme(acme: dict[str, t.Any], names: list[str]) -> t.Iterator[str]:
    if not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s.]+", acme["email"]):
        yield (
            f"{ACME}_email: {acme['email']!r} is no mail address. "
            "The authority may have to tell somebody about the certificate."
        )
    if acme["directory"] not in DIRECTORIES and not re.fullmatch(r"https://[^\s/]+(/\S*)?", acme["directory"]):
        yield (
            f"{ACME}_directory: {acme['directory']!r}: give {' or '.join(DIRECTORIES)}, "
            "or the https:// URL of another authority's ACME directory."
        )
    for variable, path, text, good, what in (
        (f"{ACME}_ca", acme["ca_path"], acme["ca"], bool(certificates(acme["ca"])), "certificate in PEM"),
        (
            f"{ACME}_hook",
            acme["hook_path"],
            acme["hook"],
            acme["hook"].startswith("#!"),
            "program, which begins with #!",
        ),
    ):
        if path and not text:
            yield (
                f"{variable}: {path}: there is no such file on the controller, or it can't be read. "
                "A relative path starts at the playbook."
            )
        elif path and not good:
            yield f"{variable}: {path}: holds no {what}."
    wildcards = [name for name in names if name.startswith("*.")]
    if acme["challenge"] == "http" and wildcards:
        yield (
            f"certificates_names: {wildcards[0]!r}: an authority gives a wildcard only to who can change DNS: "
            f"set {ACME}_challenge to nsupdate or hook, or name each host."
        )
    for challenge, given in (("nsupdate", acme["nsupdate"]), ("hook", acme["hook_path"])):
        if given and acme["challenge"] != challenge:
            yield (
                f"{ACME}_{challenge}: would not be used, as {ACME}_challenge is {acme['challenge']}: "
                f"set that to {challenge}, or remove this."
            )
    if acme["challenge"] == "hook" and not acme["hook_path"]:
        yield f"{ACME}_hook: set it to the path of a program on the controller, as {ACME}_challenge is hook."
    if acme["challenge"] == "nsupdate":
        yield from _problems_of_nsupdate(acme["nsupdate"])


def _problems_of_nsupdate(given: dict[str, t.Any]) -> t.Iterator[str]:
    variable = f"{ACME}_nsupdate"
    missing = [key for key in ("server", "key_name", "key_secret") if not given.get(key)]
    if missing:
        yield f"{variable}: lacks {', '.join(missing)}, as {ACME}_challenge is nsupdate."
        return
    try:
        ipaddress.ip_address(given["server"])
    except ValueError:
        yield f"{variable}.server: {given['server']!r}: give the name server's address."
    if re.search(r"\s", given["key_name"]):
        yield f"{variable}.key_name: {given['key_name']!r}: there is no blank in a key's name."
    try:
        base64.b64decode(given["key_secret"], validate=True)
    except (binascii.Error, ValueError):
        yield f"{variable}.key_secret: is not base64. The name server's configuration has it, as the key's secret."


def _problems_of_files(
    settings: dict[str, t.Any], names: list[str], chain_variable: str = CHAIN, key_variable: str = KEY
) -> t.Iterator[str]:
    chain_is = f"{chain_variable}: {settings['chain_path']}"
    key_is = f"{key_variable}: {settings['key_path']}"
    unreadable = [
        f"{variable}: {path}: there is no such file on the controller, or it can't be read. "
        "A relative path starts at the playbook."
        if path
        else f"{variable}: set it to the path of {what} on the controller, as certificates_source is files."
        for variable, path, text, what in (
            (chain_variable, settings["chain_path"], settings["chain"], "the certificate with its chain"),
            (key_variable, settings["key_path"], settings["key"], "the private key"),
        )
        if not text
    ]
    if unreadable:
        yield from unreadable
        return

    pems, key_pem = certificates(settings["chain"]), private_key(settings["key"])
    if not pems and key_pem is None and private_key(settings["chain"]) and certificates(settings["key"]):
        yield f"{chain_is} holds the private key, and {key_is} the certificate: swap the two."
        return
    if not pems:
        yield f"{chain_is}: holds no certificate in PEM, but {_what_is_in(settings['chain'])}."
    if key_pem is None:
        yield f"{key_is}: holds no private key in PEM, but {_what_is_in(settings['key'])}."
    if pems and private_key(settings["chain"]):
        yield f"{chain_is}: holds a private key too. Give a file with nothing but certificates: all may read those."
    if not pems or key_pem is None:
        return

    chain = []
    for number, pem in enumerate(pems, 1):
        try:
            certificate = x509.load_pem_x509_certificate(pem.encode())
            # read here, where an error can still be told
            certificate.extensions  # noqa: B018
        except ValueError as error:
            yield f"{chain_is}: certificate {number} can't be read: {error}."
            return
        chain.append(certificate)

    key, trouble = _load_key(key_pem)
    if trouble or key is None:
        yield f"{key_is}: {trouble}."
        return
    position = next((number for number, one in enumerate(chain) if _same_key(one, key)), None)
    if position is None:
        yield (
            f"{key_is}: does not belong to {_name(chain[0])} in {settings['chain_path']}: "
            "one of the two is from another order or renewal."
        )
        return
    if position > 0:
        yield (
            f"{chain_is}: the server's own certificate, {_name(chain[position])}, is number {position + 1}. "
            "It has to come first, then its issuer."
        )
        return
    yield from (f"{chain_is}: {trouble}." for trouble in _chain_troubles(chain))
    yield from (f"{chain_is}: {trouble}." for trouble in _leaf_troubles(chain[0], names))


def _what_is_in(text: str) -> str:
    label = re.search(r"-----BEGIN ([A-Z0-9 ]+)-----", text)
    if label:
        return f"a {label.group(1)}"
    if text.startswith("0"):
        # DER begins with a SEQUENCE, 0x30
        return "a binary file, perhaps DER or PKCS #12: convert it with openssl x509, openssl pkey or openssl pkcs12"
    return "something else"


def _load_key(pem: str) -> tuple[t.Any, str | None]:
    if "BEGIN ENCRYPTED" in pem or "Proc-Type: 4,ENCRYPTED" in pem:
        return None, (
            "the private key is encrypted, and there is nobody to type the password when a server starts. "
            "Decrypt it with `openssl pkey -in FILE -out NEW`; ansible-vault can encrypt the file instead"
        )
    if "BEGIN OPENSSH" in pem:
        return None, "this is a key for SSH"
    try:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None, "the private key can't be read: the file is damaged, or of a kind that nobody here knows"
    return key, _weakness(key)


def _weakness(key: t.Any) -> str | None:
    if isinstance(key, rsa.RSAPrivateKey):
        return None if key.key_size >= 2048 else f"RSA with {key.key_size} bit is too weak for clients: at least 2048"
    if isinstance(key, ec.EllipticCurvePrivateKey):
        known = ", ".join(_CURVES.values())
        return (
            None if key.curve.name in _CURVES else f"clients don't know the curve {key.curve.name}: take one of {known}"
        )
    return "not every mail client knows this kind of key: take ECDSA (P-256) or RSA (2048 bit or more)"


def _same_key(certificate: x509.Certificate, key: t.Any) -> bool:
    def public(of: t.Any) -> bytes:
        return of.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)

    try:
        return public(certificate) == public(key)
    except (ValueError, UnsupportedAlgorithm):
        return False


def _chain_troubles(chain: list[x509.Certificate]) -> t.Iterator[str]:
    for number, (one, issuer) in enumerate(zip(chain, chain[1:]), 1):
        try:
            one.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            yield (
                f"certificate {number + 1}, {_name(issuer)}, did not issue certificate {number}, {_name(one)}. "
                f"After that comes the certificate of its issuer, {one.issuer.rfc4514_string()}"
            )
            return
        constraints = _extension(issuer, x509.BasicConstraints)
        if constraints is None or not constraints.ca:
            yield f"certificate {number + 1}, {_name(issuer)}, is no CA, so what it signed is worth nothing"
    for number, one in enumerate(chain, 1):
        now = datetime.datetime.now(datetime.timezone.utc)
        begins, ends = _moment(one, "not_valid_before"), _moment(one, "not_valid_after")
        if ends <= now:
            yield f"certificate {number}, {_name(one)}, ended on {ends:{_DATE}}, and now it is {now:{_DATE}}"
        if begins > now:
            yield f"certificate {number}, {_name(one)}, begins on {begins:{_DATE}}, and now it is {now:{_DATE}}"
        digest = one.signature_hash_algorithm
        if digest is not None and digest.name in ("md5", "sha1") and one.subject != one.issuer:
            yield f"certificate {number}, {_name(one)}, is signed with {digest.name.upper()}, which clients refuse"
    if len(chain) == 1 and _has_issuer_url(chain[0]):
        yield (
            f"holds only the server's own certificate, without that of its issuer, {chain[0].issuer.rfc4514_string()}. "
            "Clients can't verify it alone: give the file with the whole chain (fullchain.pem), or append the issuer's"
        )


def _leaf_troubles(leaf: x509.Certificate, names: list[str]) -> t.Iterator[str]:
    alternative = _extension(leaf, x509.SubjectAlternativeName)
    covered = alternative.get_values_for_type(x509.DNSName) if alternative else []
    missing = [name for name in names if not any(covers(pattern, name) for pattern in covered)]
    if missing and not covered:
        yield f"the certificate, {_name(leaf)}, has no subjectAltName, and clients look nowhere else for names"
    elif missing:
        yield (
            f"the certificate is for {', '.join(covered)}, but not for {', '.join(missing)}. "
            "Change certificates_hostname or certificates_names, or get a certificate for all of them"
        )
    usage = _extension(leaf, x509.ExtendedKeyUsage)
    if usage and not {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(usage):
        yield f"the certificate, {_name(leaf)}, is not for servers: its extended key usage lacks serverAuth"


def _has_issuer_url(certificate: x509.Certificate) -> bool:
    access = _extension(certificate, x509.AuthorityInformationAccess)
    return any(one.access_method == AuthorityInformationAccessOID.CA_ISSUERS for one in access or ())


def _extension(certificate: x509.Certificate, kind: t.Any) -> t.Any:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or f"number {certificate.serial_number:X}"


def _moment(certificate: x509.Certificate, which: str) -> datetime.datetime:
    # cryptography before 42 has it only without a time zone
    if hasattr(certificate, f"{which}_utc"):
        return t.cast(datetime.datetime, getattr(certificate, f"{which}_utc"))
    return t.cast(datetime.datetime, getattr(certificate, which)).replace(tzinfo=datetime.timezone.utc)
