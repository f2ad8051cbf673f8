# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""The options of port587.mail.certificate: validate them, and derive values from them."""

import typing as t

from ansible_collections.port587.mail.plugins.module_utils._certificate import acme, renewal
from ansible_collections.port587.mail.plugins.module_utils._certificate.certificate import (
    CertificateError,
    name_trouble,
)
from ansible_collections.port587.mail.plugins.module_utils._certificate.served import RSA
from ansible_collections.port587.mail.plugins.module_utils._transaction.tree import File

#: The module's parameters.
Params = t.Mapping[str, t.Any]


def checked(params: Params) -> t.List[str]:
    """The names of the mail host's certificate. Raises CertificateError for invalid options."""
    if params["source"] == "selfsigned" and params["days"] < 60:
        raise CertificateError(
            "days: %d: give at least 60, as a certificate is renewed 30 days before its end" % params["days"]
        )
    if params["source"] == "files" and params["rsa_too"]:
        raise CertificateError("rsa_too: source files has one certificate, with the kind of key that you bring")
    names = []  # type: t.List[str]
    for name in [params["hostname"]] + params["names"]:
        wrong = name_trouble(name, wildcard=bool(names))
        if wrong:
            raise CertificateError("%s: %r: %s" % ("names" if names else "hostname", name, wrong))
        if name.lower() not in names:
            names.append(name.lower())
    taken = names[:1]
    for name in sni_names(params):
        wrong = name_trouble(name) or ("it has a certificate already" if name in taken else None)
        if wrong:
            raise CertificateError("sni: %r: %s" % (name, wrong))
        taken.append(name)
    return names


def sni_names(params: Params) -> t.List[str]:
    return [str(name).lower() for name in params["sni"]]


def other_labels(params: Params) -> t.List[str]:
    """Labels of the certificates other than the mail host's: RSA, and names."""
    return ([RSA] if params["rsa_too"] else []) + sni_names(params)


def acme_settings(params: Params, names: t.List[str]) -> acme.Settings:
    given = params["acme"]
    return acme.Settings(
        names=names,
        key_type=params["key_type"],
        directory=acme.DIRECTORIES.get(given["directory"], given["directory"]),
        email=given["email"],
        challenge=given["challenge"],
        own_ca=bool(given["ca"]),
        wait=given["nsupdate"]["wait"] if given["challenge"] == "nsupdate" else 0,
        sni=sni_names(params),
        rsa_too=params["rsa_too"],
    )


def acme_tools(params: Params, names: t.List[str]) -> t.List[File]:
    """The files that the server needs to get certificates, now and later."""
    given = params["acme"]
    nsupdate = ""
    if given["challenge"] == "nsupdate":
        options = dict(given["nsupdate"], secret=params["acme_secret"])
        nsupdate = "".join(
            "dns_rfc2136_%s = %s\n" % (theirs, options[ours])
            for theirs, ours in (
                ("server", "server"),
                ("port", "port"),
                ("name", "key_name"),
                ("secret", "secret"),
                ("algorithm", "key_algorithm"),
            )
        )
    hook = params["acme_hook"] if given["challenge"] == "hook" else ""
    return renewal.tools(acme_settings(params, names), params["acme_units"], given["ca"] or "", nsupdate, hook or "")
