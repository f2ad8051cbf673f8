# Copyright (c) The port587.mail contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Check the files in the variables of role certificates as clients, daemons and the authority would.

The files are on the controller. No message contains a key.
"""

from __future__ import annotations

import datetime
import pathlib
import re
import typing as t

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.port587.mail.plugins.module_utils._certificate.certificate import (
    certificates,
    covers,
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

CHAIN = "certificates_files_chain"
KEY = "certificates_files_key"
SNI = "certificates_files_sni"
CA = "certificates_acme_ca"
HOOK = "certificates_acme_hook"

_DATE = "%Y-%m-%d %H:%M UTC"
_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}


class File(t.NamedTuple):
    """A file on the controller: the variable that names it, its path, and its text; empty where it can't be read."""

    variable: str
    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.variable}: {self.path}"

    def unreadable(self) -> str:
        return f"{self}: there is no such file on the controller, or it can't be read; write another path"


#: Reads a file, given the variable that names it and its path.
Read = t.Callable[[str, str], File]


def problems(action: ActionBase, value: t.Callable[[str], t.Any]) -> t.Iterator[str]:
    """Mistakes in the files that the variables name, as far as certificates_source needs them."""
    if NO_CRYPTOGRAPHY:
        raise AnsibleActionFail("the check of certificates needs the Python package cryptography") from NO_CRYPTOGRAPHY

    def read(variable: str, path: str) -> File:
        try:
            # decrypted, if it is in a vault
            found = action._loader.get_real_file(action._find_needle("files", path)) if path else ""
            text = pathlib.Path(found).read_text(encoding="utf-8", errors="surrogateescape") if found else ""
        except (AnsibleError, OSError):
            text = ""
        return File(variable, path, text)

    if value("certificates_source") == "files":
        names = [value("certificates_hostname"), *value("certificates_names")]
        yield from of_pair(read(CHAIN, value(CHAIN)), read(KEY, value(KEY)), names)
        yield from of_other_names(value("certificates_sni"), value(SNI), read)
    elif value("certificates_source") == "acme":
        yield from of_acme(
            *(read(variable, value(variable)) for variable in ("certificates_acme_ca", "certificates_acme_hook"))
        )


def of_other_names(names: list[str], given: dict[str, t.Any], read: Read) -> t.Iterator[str]:
    """Mistakes in the files of names with their own certificates."""
    by_name = {name.lower(): paths for name, paths in given.items()}
    for name in map(str.lower, names):
        paths = by_name.get(name)
        if isinstance(paths, dict) and not {"chain", "key"} - set(paths):
            chain, key = (read(f"{SNI}.{name}.{part}", paths[part]) for part in ("chain", "key"))
            yield from of_pair(chain, key, [name])
        else:
            yield f"{SNI}: lacks {name}, which is in mail_sni; write the paths of its chain and key on the controller"


def of_acme(authority: File, hook: File) -> t.Iterator[str]:
    """Mistakes in the authority's own certificate, and in the program that sets DNS records."""
    for file, good, what in (
        (authority, bool(certificates(authority.text)), "certificate in PEM"),
        (hook, hook.text.startswith("#!"), "program, which begins with #!"),
    ):
        if file.path and not file.text:
            yield file.unreadable()
        elif file.path and not good:
            yield f"{file}: holds no {what}; write the path of a file that does"


def of_pair(chain_file: File, key_file: File, names: list[str]) -> t.Iterator[str]:
    """Mistakes in a certificate, its chain, and its key, for these names."""
    unreadable = [
        file.unreadable() if file.path else f"{file.variable}: is empty; write the path of {what} on the controller"
        for file, what in ((chain_file, "the certificate with its chain"), (key_file, "the private key"))
        if not file.text
    ]
    if unreadable:
        yield from unreadable
        return

    pems, key_pem = certificates(chain_file.text), private_key(key_file.text)
    if not pems and key_pem is None and private_key(chain_file.text) and certificates(key_file.text):
        yield f"{chain_file} holds the private key, and {key_file} the certificate: swap the two."
        return
    if not pems:
        yield f"{chain_file}: holds no certificate in PEM, but {_what_is_in(chain_file.text)}."
    if key_pem is None:
        yield f"{key_file}: holds no private key in PEM, but {_what_is_in(key_file.text)}."
    if pems and private_key(chain_file.text):
        yield f"{chain_file}: holds a private key too. Give a file with nothing but certificates: all may read those."
    if not pems or key_pem is None:
        return

    chain = []
    for number, pem in enumerate(pems, 1):
        try:
            certificate = x509.load_pem_x509_certificate(pem.encode())
            # read here, where an error can still be reported
            certificate.extensions  # noqa: B018
        except ValueError as error:
            yield f"{chain_file}: certificate {number} can't be read: {error}."
            return
        chain.append(certificate)

    key, trouble = _load_key(key_pem)
    if trouble or key is None:
        yield f"{key_file}: {trouble}."
        return
    position = next((number for number, one in enumerate(chain) if _same_key(one, key)), None)
    if position is None:
        yield (
            f"{key_file}: does not belong to {_name(chain[0])} in {chain_file.path}: "
            "one of the two is from another order or renewal."
        )
        return
    if position > 0:
        yield (
            f"{chain_file}: the server's own certificate, {_name(chain[position])}, is number {position + 1}. "
            "It has to come first, then its issuer."
        )
        return
    yield from (f"{chain_file}: {trouble}." for trouble in _chain_troubles(chain))
    yield from (f"{chain_file}: {trouble}." for trouble in _leaf_troubles(chain[0], names))


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
