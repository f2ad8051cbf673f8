# SPDX-License-Identifier: GPL-3.0-or-later
"""The certificate as seen by a client that trusts only the CA file that the play saved."""

import datetime
import pathlib
import re
import socket
import ssl
import subprocess
import time

import controller
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

HERE = pathlib.Path(__file__).parent
TLS, CA = "/etc/port587/tls", "/etc/port587/ca"
PORT = 4433
HOUR = datetime.timedelta(hours=1)


@pytest.fixture
def variables(host):
    return host.ansible.get_variables()


@pytest.fixture
def name(variables):
    return variables["mail_hostname"]


@pytest.fixture
def ca_file(variables):
    """What the play saved on the controller."""
    return pathlib.Path(variables["certificates_ca_file"])


@pytest.fixture
def play(variables):
    """Run the play again, with other values; returns (exit code, all output, number of changed tasks)."""

    def run(*options, **values):
        done = controller.play(HERE.parent / "converge.yml", variables["inventory_hostname"], *options, **values)
        return done.code, done.output, done.changed

    return run


@pytest.fixture
def as_converged(play):
    """Afterwards the server is again as the scenario made it."""
    yield
    code, output, _changed = play()
    assert code == 0, output


@pytest.fixture
def handshake(host, variables, ca_file):
    """A TLS handshake over the network, as a client does one that trusts only ``ca``."""

    def shake(name, ca=ca_file):
        host.run("systemctl stop certificate-test")
        server = f"openssl s_server -www -accept {PORT} -cert {TLS}/combined.pem -key {TLS}/combined.pem"
        server += f" -cert_chain {TLS}/fullchain.pem"
        host.check_output(f"systemd-run --quiet --collect --unit=certificate-test {server}")
        context = ssl.create_default_context(cafile=str(ca) if ca else None)
        # the default from Python 3.13 on
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        for attempt in range(50):
            try:
                connection = socket.create_connection((variables["ansible_host"], PORT), 5)
                break
            except ConnectionRefusedError:
                if attempt == 49:
                    raise
                time.sleep(0.1)
        with connection, context.wrap_socket(connection, server_hostname=name) as wrapped:
            return x509.load_der_x509_certificate(wrapped.getpeercert(True))

    yield shake
    host.run("systemctl stop certificate-test")


def state(host):
    """All that there is, with owners, modes and times: two equal ones mean that nothing was touched."""
    return host.check_output(
        "find /etc/port587 -printf '%p %M %u:%g %T@ %C@\\n' | sort; cat /etc/port587/*/*.pem | sha256sum"
    )


@pytest.mark.parametrize(
    ("path", "mode"),
    [
        (TLS, 0o755),
        (CA, 0o755),
        (f"{TLS}/combined.pem", 0o600),
        (f"{TLS}/fullchain.pem", 0o644),
        (f"{CA}/ca.pem", 0o644),
        (f"{CA}/ca.key", 0o600),
    ],
)
def test_permissions(host, path, mode):
    file = host.file(path)
    assert (file.mode, file.user, file.group) == (mode, "root", "root")


def test_only_the_saved_ca_vouches_for_it(host, handshake, name, variables, ca_file):
    assert host.file(f"{CA}/ca.pem").content_string == ca_file.read_text(encoding="ascii")
    certificate = handshake(name)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    domain = variables["mail_domains"][0]
    assert names.get_values_for_type(x509.DNSName) == [name, f"imap.{domain}", f"smtp.{domain}"]
    handshake(f"imap.{domain}")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(f"www.{domain}")
    with pytest.raises(ssl.SSLCertVerificationError, match="self.signed certificate in certificate chain"):
        handshake(name, ca=None)


def test_openssl_on_the_server_verifies_it(host, name):
    verify = "openssl verify -x509_strict -purpose sslserver -no-CApath -verify_hostname %s -CAfile %s %s"
    assert host.check_output(verify, name, f"{CA}/ca.pem", f"{TLS}/fullchain.pem").endswith(": OK")
    # one file, of which nobody can read one half of another time
    assert (
        host.check_output("grep -h -e ----- %s", f"{TLS}/combined.pem").splitlines()
        == [
            "-----BEGIN PRIVATE KEY-----",
            "-----END PRIVATE KEY-----",
        ]
        + ["-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"] * 2
    )


def test_no_key_lies_about(host):
    found = host.check_output(
        "grep -rlsE 'BEGIN .*PRIVATE KEY' /etc/port587 /var/lib/port587 /tmp /var/tmp /root/.ansible; true"
    )
    assert sorted(found.split()) == [f"{CA}/ca.key", f"{TLS}/combined.pem"]


def test_two_module_runs_when_nothing_changes(host, play):
    before = state(host)
    code, output, changed = play("-vvv")
    assert (code, changed) == (0, 0), output
    on_server = re.findall(r"^Using module file \S+/port587/mail/plugins/modules/(\w+)\.py", output, re.MULTILINE)
    assert on_server == ["server_info", "certificate"], output
    assert "PRIVATE KEY" not in output
    assert state(host) == before


@pytest.mark.usefixtures("as_converged")
def test_other_key_and_name_need_no_new_ca(host, play, handshake, name, variables, ca_file):
    ca = ca_file.read_bytes()
    other = f"mx.{variables['mail_domains'][0]}"
    values = {"certificates_key_type": "rsa", "certificates_hostname": other}

    code, predicted, predicted_changes = play("--check", **values)
    assert code == 0, predicted
    assert isinstance(handshake(name).public_key(), ec.EllipticCurvePublicKey)

    code, output, changed = play(**values)
    assert (code, changed) == (0, 1), output
    assert f"names: {other}" in output
    assert "RSA 3072 bit" in output
    assert diff(predicted) == diff(output)
    assert predicted_changes == changed
    assert ca_file.read_bytes() == ca
    assert handshake(other).public_key().key_size == 3072
    assert play(**values)[2] == 0


@pytest.mark.usefixtures("as_converged")
def test_both_kinds_of_key(host, play, handshake, name, ca_file):
    ca = ca_file.read_bytes()
    values = {"certificates_key_type": "both"}
    before = handshake(name)
    predicted = play("--check", **values)
    code, output, changed = play(**values)
    assert (code, changed, predicted[2]) == (0, 1, 1), output
    assert diff(predicted[1]) == diff(output)
    assert "+  key: RSA 3072 bit" in output
    # the other one stays, and so does what clients trust
    assert handshake(name).serial_number == before.serial_number
    assert ca_file.read_bytes() == ca
    pem = host.check_output(f"openssl x509 -in {TLS}/rsa.pem")
    rsa_too = x509.load_pem_x509_certificate(pem.encode())
    assert rsa_too.public_key().key_size == 3072
    rsa_too.verify_directly_issued_by(x509.load_pem_x509_certificate(ca))
    assert host.file(f"{TLS}/rsa.pem").mode == 0o600
    assert play(**values)[2] == 0
    assert play()[2] == 1
    assert not host.file(f"{TLS}/rsa.pem").exists


def diff(output):
    return [line for line in output.splitlines() if line.startswith(("+", "-", "@", " "))]


@pytest.mark.one_host
@pytest.mark.usefixtures("as_converged")
def test_name_elsewhere_gets_a_new_ca_and_a_warning(play, handshake, name, ca_file):
    ca = ca_file.read_bytes()
    code, output, _changed = play(
        certificates_hostname="mail.elsewhere.test", certificates_names=[], certificates_ca_file=str(ca_file)
    )
    assert code == 0, output
    assert "vouches for" in output
    assert "have to import the new one" in " ".join(output.split())
    assert ca_file.read_bytes() != ca
    handshake("mail.elsewhere.test")


@pytest.mark.one_host
@pytest.mark.usefixtures("as_converged")
def test_further_domain_leaves_clients_their_ca(play, handshake, name, variables, ca_file):
    ca = ca_file.read_bytes()
    values = {"certificates_names": ["autoconfig.elsewhere.test", f"imap.{variables['mail_domains'][0]}"]}
    code, output, _changed = play(**values)
    assert code == 0, output
    said = " ".join(output.split())
    assert "There is no certificate for autoconfig.elsewhere.test: the server's CA vouches for" in said
    assert ca_file.read_bytes() == ca
    handshake(name)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake("autoconfig.elsewhere.test")
    assert play(**values)[2] == 0


@pytest.mark.usefixtures("as_converged")
def test_names_with_a_certificate_of_their_own(host, play, variables):
    """What Postfix and Dovecot make of the files, scenario acme shows."""
    name, elsewhere = f"mail2.{variables['mail_domains'][0]}", "mail.elsewhere.test"
    values = {"mail_sni": [name, elsewhere]}
    before = host.file(f"{TLS}/combined.pem").content
    predicted = play("--check", **values)
    code, output, changed = play(**values)
    assert (code, changed, predicted[2]) == (0, 1, 1), predicted[1] + output
    assert diff(predicted[1]) == diff(output)
    assert host.file(f"{TLS}/combined.pem").content == before
    assert host.file(f"{TLS}/{name}.pem").mode == 0o600
    verify = "openssl verify -x509_strict -purpose sslserver -no-CApath -verify_hostname %s -CAfile %s %s"
    assert host.check_output(verify, name, f"{CA}/ca.pem", f"{TLS}/{name}.pem").endswith(": OK")
    assert host.run(verify, f"imap.{variables['mail_domains'][0]}", f"{CA}/ca.pem", f"{TLS}/{name}.pem").rc != 0
    # the CA can't vouch for it: the mail host's stands in
    assert host.file(f"{TLS}/{elsewhere}.pem").content == before
    assert f"There is no certificate for {elsewhere}: " in " ".join(output.split())
    assert play(**values)[2] == 0
    # no daemon names them
    assert play()[2] == 1
    assert sorted(host.file(TLS).listdir()) == ["combined.pem", "fullchain.pem"]


@pytest.mark.one_host
@pytest.mark.usefixtures("as_converged")
def test_damaged_files_are_made_anew(host, play, handshake, name, ca_file):
    """A certificate of another key, as somebody may have put it there by hand."""
    ca = ca_file.read_bytes()
    host.check_output("openssl genpkey -algorithm RSA -out %s", f"{TLS}/combined.pem")
    host.check_output("chmod 0644 %s", f"{TLS}/combined.pem")
    code, output, changed = play()
    assert (code, changed) == (0, 1), output
    assert host.file(f"{TLS}/combined.pem").mode == 0o600
    assert ca_file.read_bytes() == ca
    handshake(name)


# -- files --------------------------------------------------------------------------------------------------------


def issue(directory, names, hours=24, key=None):
    """Write a chain and its key, and the root that vouches for them; returns the play's values."""
    now = datetime.datetime.now(datetime.timezone.utc)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), key or ec.generate_private_key(ec.SECP256R1())
    root_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "A root")])

    def build(subject, public_key, extensions, end):
        builder = x509.CertificateBuilder(
            root_name, subject, public_key, x509.random_serial_number(), now - HOUR * 48, end
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    usage = {"digital_signature", "key_cert_sign", "crl_sign"}
    flags = ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"]
    flags += ["key_cert_sign", "crl_sign", "encipher_only", "decipher_only"]
    root = build(
        root_name,
        ca_key.public_key(),
        [
            (x509.BasicConstraints(True, None), True),
            (x509.KeyUsage(**{flag: flag in usage for flag in flags}), True),
            (x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), False),
        ],
        now + HOUR * 48,
    )
    leaf = build(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])]),
        key.public_key(),
        [
            (x509.BasicConstraints(False, None), True),
            (x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), False),
            (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        ],
        now + HOUR * hours,
    )
    (directory / "root.pem").write_bytes(root)
    (directory / "chain.pem").write_bytes(leaf + root)
    form = serialization.PrivateFormat.TraditionalOpenSSL
    (directory / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    )
    return files(directory)


def files(directory, chain="chain.pem", key="key.pem"):
    return {
        "certificates_source": "files",
        "certificates_files_chain": str(directory / chain),
        "certificates_files_key": str(directory / key),
        "certificates_names": [],
    }


@pytest.mark.usefixtures("as_converged")
def test_files_there_and_back(host, play, handshake, name, tmp_path, ca_file):
    ca = ca_file.read_bytes()
    values = issue(tmp_path, [name, "other.test"], key=rsa.generate_private_key(65537, 2048))
    key = (tmp_path / "key.pem").read_text(encoding="ascii")
    (tmp_path / "password").write_text("secret", encoding="ascii")
    vault = ["--vault-password-file", str(tmp_path / "password")]
    subprocess.run(["ansible-vault", "encrypt", *vault, str(tmp_path / "key.pem")], check=True)

    code, predicted, _changed = play("--check", *vault, **values)
    assert code == 0, predicted
    code, output, changed = play("-vvv", *vault, **values)
    assert (code, changed) == (0, 1), output
    assert diff(predicted) == [line for line in diff(output) if line in diff(predicted)]
    assert not [line for line in key.splitlines() if len(line) > 20 and line in output]
    assert handshake(name, ca=tmp_path / "root.pem").public_key().key_size == 2048
    assert play(*vault, **values)[2] == 0

    code, output, changed = play()
    assert (code, changed) == (0, 1), output
    assert ca_file.read_bytes() == ca
    handshake(name)


def swapped(directory, name):
    issue(directory, [name])
    return files(directory, chain="key.pem", key="chain.pem")


def of_another_key(directory, name):
    issue(directory, [name])
    (directory / "other").mkdir()
    issue(directory / "other", [name])
    return files(directory, key="other/key.pem")


def expired(directory, name):
    return issue(directory, [name], hours=-1)


def for_another_name(directory, _name):
    return issue(directory, ["www.example.com"])


# What is said of each bad file, tests/unit has; here, that it stops the play in time.
@pytest.mark.one_host
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            swapped,
            "certificates_files_chain: {}/key.pem holds the private key, and certificates_files_key: {}/chain.pem",
        ),
        (of_another_key, "certificates_files_key: {}/other/key.pem: does not belong to CN="),
        (expired, "certificates_files_chain: {}/chain.pem: certificate 1, CN="),
        (
            for_another_name,
            "certificates_files_chain: {}/chain.pem: the certificate is for www.example.com, but not for mail.",
        ),
        (lambda directory, _name: files(directory), "certificates_files_key: {}/key.pem: there is no such file"),
        (lambda *_: {"certificates_hostname": "mail"}, "certificates_hostname: 'mail' is not a fully qualified"),
        (lambda *_: {"certificates_source": "acme"}, "certificates_acme_email: is empty"),
        (
            lambda directory, name: {**issue(directory, [name]), "mail_sni": ["mail.example.org"]},
            "certificates_files_sni: lacks mail.example.org, which is in mail_sni; write the paths",
        ),
    ],
)
def test_bad_input_changes_nothing(host, play, name, tmp_path, make, message):
    before = state(host)
    code, output, changed = play(**make(tmp_path, name))
    assert code != 0
    assert changed == 0
    said = re.sub(r"\s+", "", output.replace("''", "'"))
    assert re.sub(r"\s+", "", message.replace("{}", str(tmp_path))) in said, output
    assert state(host) == before
