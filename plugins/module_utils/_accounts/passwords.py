# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Hash passwords on the server, for its Dovecot, and recognise unchanged passwords.

Dovecot's own tool is not suitable: `doveadm pw -t` takes the hash as an argument, which every process of the machine
can read, and has no option for ARGON2ID's memory. Both schemes come from the library that Dovecot itself uses.

To verify a password against its hash costs as much as a login. To avoid that at each run, the server stores an HMAC of
each password with its hash. The HMAC's key is a secret of the controller, which sends it at each run; the server does
not store it. Without the key, the stored HMACs do not help to guess a password. An attacker on the controller has the
passwords anyway. If the key is lost or replaced, passwords are verified against their hashes again.
"""

import base64
import concurrent.futures
import ctypes
import hashlib
import hmac
import os
import time
import typing as t

from ansible_collections.port587.mail.plugins.module_utils._transaction.files import private_directory, read_file, write
from ansible_collections.port587.mail.plugins.module_utils._transaction.tree import File

#: The directory of what the server keeps about passwords, and of the lock of the passwd-file. Only root can use it.
STATE = "/var/lib/port587/accounts"


class HashError(Exception):
    """A password could not be hashed; the message says why."""


class Scheme:
    """A hash scheme: ``name`` is Dovecot's. Threads may share it; the libraries release Python's global lock."""

    name = ""

    def usable(self) -> bool:
        raise NotImplementedError

    def hash(self, password: bytes) -> bytes:
        raise NotImplementedError

    def verify(self, password: bytes, data: bytes) -> bool:
        raise NotImplementedError


class Argon2id(Scheme):
    """The best scheme, since it is memory-hard.

    Dovecot's own default takes 64 MB and 100 ms of its single auth process at each login, so ten wrong passwords a
    second would block all logins. OWASP's parameters (19 MB, 2 passes) take 25 ms.
    """

    name = "ARGON2ID"
    _PASSES = 2
    _MEMORY = 19 * 1024 * 1024
    _LENGTH = 128  # crypto_pwhash_STRBYTES

    def __init__(self) -> None:
        self._sodium = _library("libsodium.so.23", "libsodium.so.26")
        if self._sodium:
            self._sodium.sodium_init()
            size = ctypes.c_ulonglong
            self._sodium.crypto_pwhash_str.argtypes = [ctypes.c_char_p, ctypes.c_char_p, size, size, ctypes.c_size_t]
            self._sodium.crypto_pwhash_str_verify.argtypes = [ctypes.c_char_p, ctypes.c_char_p, size]

    def usable(self) -> bool:
        return self._sodium is not None

    def hash(self, password: bytes) -> bytes:
        if self._sodium is None:
            raise HashError("ARGON2ID needs libsodium, which this server does not have")
        out = ctypes.create_string_buffer(self._LENGTH)
        if self._sodium.crypto_pwhash_str(out, password, len(password), self._PASSES, self._MEMORY) != 0:
            raise HashError("ARGON2ID could not get the %d MB it works in" % (self._MEMORY // 1024 // 1024))
        return out.value

    def verify(self, password: bytes, data: bytes) -> bool:
        if self._sodium is None:
            raise HashError("ARGON2ID needs libsodium, which this server does not have")
        return len(data) < self._LENGTH and self._sodium.crypto_pwhash_str_verify(data, password, len(password)) == 0


class Sha512Crypt(Scheme):
    """Available in every Dovecot and every crypt(3). Unlike bcrypt it does not truncate passwords after 72 bytes.

    Ten times the rounds of Dovecot's default: a login then costs about as much as with ARGON2ID.
    """

    name = "SHA512-CRYPT"
    _ROUNDS = 50000
    _WORKSPACE = 1 << 18  # struct crypt_data, of which glibc's is the largest: 128 KiB

    def __init__(self) -> None:
        self._crypt = _library("libcrypt.so.1")
        if self._crypt:
            self._crypt.crypt_r.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p]
            self._crypt.crypt_r.restype = ctypes.c_char_p

    def usable(self) -> bool:
        return self._crypt is not None

    def hash(self, password: bytes) -> bytes:
        salt = base64.b64encode(os.urandom(12), altchars=b"./")
        result = self._run(password, b"$6$rounds=%d$%s$" % (self._ROUNDS, salt))
        if not result.startswith(b"$6$"):
            raise HashError("this server's crypt(3) does not know SHA512-CRYPT")
        return result

    def verify(self, password: bytes, data: bytes) -> bool:
        return self._run(password, data) == data

    def _run(self, password: bytes, setting: bytes) -> bytes:
        if self._crypt is None:
            raise HashError("this server's libcrypt can't be loaded")
        return self._crypt.crypt_r(password, setting, ctypes.create_string_buffer(self._WORKSPACE)) or b""


#: The best first.
SCHEMES = (Argon2id, Sha512Crypt)
NAMES = [scheme.name for scheme in SCHEMES]
#: Schemes that Dovecot 2.4 refuses as weak (seen on 2.4.1; auth_allow_weak_schemes).
WEAK = {"DES-CRYPT", "HMAC-MD5", "LDAP-MD5", "MD5", "MD5-CRYPT", "PLAIN-MD4", "PLAIN-MD5", "SMD5"}


def _library(*names: str) -> t.Optional[ctypes.CDLL]:
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def choose(wanted: str, known: t.Iterable[str]) -> t.Optional[Scheme]:
    """The scheme ``wanted``, or the best one that the server's Dovecot supports if that is ``auto``."""
    for kind in SCHEMES:
        if kind.name in known and wanted in ("auto", kind.name):
            scheme = kind()
            if scheme.usable():
                return scheme
    return None


class Recognised:
    """Cache of passwords that match their hashes, in a file on the server that may be lost at any time."""

    def __init__(self, path: str, key: t.Optional[str]) -> None:
        self._path = path
        self._key = (key or "").encode("utf-8")
        content = (read_file(path) or b"") if key else b""
        self._before = set(content.decode("ascii", "replace").splitlines())
        self._now = set()  # type: t.Set[str]

    def _fingerprint(self, password: bytes, stored: str) -> str:
        return hmac.new(self._key, stored.encode("utf-8") + b"\0" + password, hashlib.sha256).hexdigest()

    def knows(self, password: bytes, stored: str) -> bool:
        fingerprint = self._fingerprint(password, stored)
        if not self._key or fingerprint not in self._before:
            return False
        self._now.add(fingerprint)
        return True

    def remember(self, password: bytes, stored: str) -> None:
        self._now.add(self._fingerprint(password, stored))

    def save(self) -> None:
        if self._key and self._now != self._before:
            private_directory(os.path.dirname(self._path))
            content = "".join("%s\n" % fingerprint for fingerprint in sorted(self._now)).encode("ascii")
            write(self._path + ".new", File(self._path, content, 0o600), time.time())
            os.rename(self._path + ".new", self._path)


def hashes(
    scheme: Scheme, passwords: t.Dict[str, str], existing: t.Dict[str, str], recognised: Recognised
) -> t.Dict[str, str]:
    """``{SCHEME}data`` for each login: the existing one where its scheme is this and the password is still the same."""
    prefix = "{%s}" % scheme.name
    found = {}  # type: t.Dict[str, str]
    asked = []  # type: t.List[str]
    for login in passwords:
        old = existing.get(login, "")
        if old.startswith(prefix) and recognised.knows(passwords[login].encode("utf-8"), old):
            found[login] = old
        else:
            asked.append(login)

    def one(login: str) -> str:
        password = passwords[login].encode("utf-8")
        old = existing.get(login, "")
        if old.startswith(prefix) and scheme.verify(password, old[len(prefix) :].encode("utf-8")):
            return old
        return prefix + scheme.hash(password).decode("ascii")

    # more threads than processors would only use more memory
    with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for login, stored in zip(asked, pool.map(one, asked)):
            recognised.remember(passwords[login].encode("utf-8"), stored)
            found[login] = stored
    return found
