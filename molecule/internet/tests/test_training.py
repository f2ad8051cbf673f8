# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Training: mail that users move into Junk, or out of it, decides where similar mail goes."""

import time
import typing as t

import pytest
from conftest import MAIL_HOSTS, SCENARIO, Site, comes_back, site
from exposure import too_exposed
from mailclient import Imap, mail, submit, token, until
from test_internet import bring, play, read

#: What the two kinds of mail are about.
KINDS = {
    "spam": b"Buy cheap pills online now, casino winner! Claim the lottery money of a prince, limited offer.\r\n"
    b"Risk free investment doubles your income overnight, act immediately, guaranteed profit without any work.\r\n"
    b"Exclusive replica watches, miracle weight loss, unclaimed inheritance transfer, click below before midnight.\r\n",
    "ham": b"The minutes of our garden club: library books, planning, who waters the tomatoes this summer.\r\n"
    b"Grandmother visits on Thursday, please bring the blue bicycle and the missing chess pieces to the station.\r\n"
    b"Our choir rehearses Brahms again, the piano tuner came, and the neighbour repaired the leaking roof.\r\n",
}
#: Of each kind, before there is a verdict.
LEARNED = 6
SENDER = "eve@elsewhere.test"
#: Which of the two the host has.
REDIS = "$(command -v redis-cli || command -v valkey-cli) -s /run/port587-redis/redis.sock"


def about(kind: str, here: Site, word: str, sender: str = SENDER) -> bytes:
    """No two are the same: the same text again is learned once."""
    return mail(sender, here.account("bob").address, word, KINDS[kind] + word.encode() + b"\r\n")


@pytest.fixture(scope="module")
def sites() -> t.List[Site]:
    sites = [site(name) for name in sorted(set(MAIL_HOSTS))]
    play(SCENARIO / "part.yml", *sites, parts=["rspamd", "dovecot"], mail_training=True, rspamd_training_least=LEARNED)
    for here in sites:
        # nothing of an earlier run
        here.host.check_output(f"{REDIS} flushall")
    return sites


def comes_in(here: Site, kind: str) -> str:
    word = token()
    assert bring(here, SENDER, about(kind, here, word)) == (250, "")
    return word


def lies_in_junk(here: Site, kind: str) -> str:
    """Without having been moved there."""
    word = token()
    with Imap(here.server) as imap:
        imap.log_in(here.account("bob"))
        assert imap.append("Junk", "", "", about(kind, here, word))[0] == "OK"
    return word


def move(here: Site, word: str, folder: str, target: str) -> None:
    read(here, "bob", word, folder)
    with Imap(here.server) as imap:
        imap.log_in(here.account("bob"))
        (number,) = imap.search_subject(word, folder)
        assert imap.xatom("MOVE", number, target)[0] == "OK"


def lands_in_junk(here: Site) -> str:
    """Who could not reach Redis tries again after a while only (upstream, revive_time)."""
    for word in until(lambda: comes_in(here, "spam"), 100):
        folder = folder_of(here, word)
        if folder == "Junk":
            return word
    raise AssertionError(folder)


def folder_of(here: Site, word: str) -> str:
    with Imap(here.server).log_in(here.account("bob")) as imap:
        for folders in until(lambda: [name for name in ("INBOX", "Junk") if imap.search_subject(word, name)]):
            if folders:
                return folders[0]
    raise AssertionError(word)


def learned(here: Site) -> t.Dict[str, int]:
    """In Redis itself: what rspamd 2.7 says of it (rspamc stat) is up to a minute old."""
    # no answer in the moment when Redis is gone
    counts = [here.host.run(f"{REDIS} hget RS learns_{kind}").stdout.strip() for kind in KINDS]
    return {kind: int(count) for kind, count in zip(KINDS, counts) if count.isdigit()}


def has_learned(here: Site, expected: t.Dict[str, int]) -> None:
    for counts in until(lambda: learned(here)):
        if counts == expected:
            return
    raise AssertionError(counts)


def test_training(sites: t.List[Site]) -> None:
    for here in sites:
        teach(here)


def teach(here: Site) -> None:
    junk = [lies_in_junk(here, "ham") for _number in range(LEARNED)]
    for word in [comes_in(here, "spam") for _number in range(LEARNED)]:
        move(here, word, "INBOX", "Junk")
    for word in junk:
        move(here, word, "Junk", "INBOX")
    has_learned(here, {"spam": LEARNED, "ham": LEARNED})
    # it is on the disk within a second
    time.sleep(1.5)
    here.host.check_output("systemctl kill --signal=KILL port587-redis")
    has_learned(here, {"spam": LEARNED, "ham": LEARNED})

    spam, ham = lands_in_junk(here), comes_in(here, "ham")
    read(here, "bob", ham)
    # who throws it away has not said that it is none
    move(here, spam, "Junk", "Trash")
    assert learned(here) == {"spam": LEARNED, "ham": LEARNED}
    # and there is no verdict on what people here write
    word = token()
    text = about("spam", here, word, here.account("alice").address)
    submit(here.server, here.account("alice"), here.account("bob").address, text)
    assert read(here, "bob", word)["X-Spam"] is None


def test_valkey_stands_in_where_there_is_no_redis(sites: t.List[Site]) -> None:
    newest = sites[-1].host
    assert newest.check_output("systemctl show --property=MainPID --value port587-redis | xargs ps -o comm= -p") == (
        "valkey-server"
    )
    # the package's own unit
    assert newest.run("systemctl is-enabled valkey-server").stdout.strip() == "disabled"


def test_redis_is_restricted(sites: t.List[Site]) -> None:
    for here in sites:
        assert too_exposed(here.host, "port587-redis") == {}


def test_redis_comes_back(sites: t.List[Site]) -> None:
    for here in sites:
        comes_back(here, port587_redis=("/run/port587-redis/redis.sock", "PING\r\n", "+PONG"))


def test_mail_goes_on_without_redis(sites: t.List[Site]) -> None:
    """Nothing but the verdict is missing, and what is moved meanwhile is not learned."""
    for here in sites:
        here.host.check_output("systemctl stop port587-redis")
        for kind in ("spam", "ham"):
            move(here, comes_in(here, kind), "INBOX", "Junk")
        here.host.check_output("systemctl start port587-redis")
        lands_in_junk(here)


def test_off_again(sites: t.List[Site]) -> None:
    """What was learned stays, for when it is switched on again."""
    play(SCENARIO / "part.yml", *sites, parts=["dovecot", "rspamd"], mail_training=False)
    for here in sites:
        assert here.host.run("systemctl is-active port587-redis").stdout == "inactive\n"
        assert here.host.run("systemctl is-enabled port587-redis").failed
        assert here.host.file("/var/lib/port587-redis").listdir()
        read(here, "bob", comes_in(here, "spam"))
