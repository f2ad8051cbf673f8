# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kill a transaction, or let a system call fail, at every possible point, one after the other.

A point is before and after each system call that changes something, and in the middle of each write.
"""

import builtins
import errno
import os
import pathlib
import signal
import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._transaction.change import Result
from ansible_collections.port587.mail.plugins.module_utils._transaction.errors import TransactionError
from transaction_fixture import Server

CALLS = ["open", "rename", "unlink", "mkdir", "rmdir", "fsync", "chmod", "chown", "fchmod", "fchown", "utime"]
CALLS += ["symlink"]

#: What needs space on the disk.
NEEDS_SPACE = ("write", "open", "mkdir", "symlink")

Snapshot = t.Dict[str, t.Tuple[t.Any, ...]]


class Points:
    """Counts the points, and does something at one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, act: t.Callable[[int, str], None]) -> None:
        self.count = 0
        self.act = act
        for name in CALLS:
            monkeypatch.setattr(os, name, self.around(name, getattr(os, name)))
        monkeypatch.setattr(os, "fdopen", self.in_pieces(os.fdopen))
        monkeypatch.setattr(builtins, "open", self.in_pieces(builtins.open))

    def point(self, what: str) -> None:
        self.count += 1
        self.act(self.count, what)

    def around(self, name: str, call: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
        def changed(*arguments: t.Any, **more: t.Any) -> t.Any:
            if name == "open" and not arguments[1] & os.O_CREAT:
                return call(*arguments, **more)
            self.point(name)
            done = call(*arguments, **more)
            self.point("after " + name)
            return done

        return changed

    def in_pieces(self, call: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
        def changed(*arguments: t.Any, **more: t.Any) -> t.Any:
            writes = len(arguments) > 1 and str(arguments[1])[0] in "wa"
            if writes and call is not os_fdopen:
                self.point("open")
            handle = call(*arguments, **more)
            if writes and "b" in arguments[1]:
                # unbuffered, so that what is written before a kill is there
                return Pieces(handle, self)
            return handle

        return changed


os_fdopen = os.fdopen


@pytest.fixture(autouse=True)
def _quick_disk(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A thousand runs, each syncing a dozen files, would take minutes."""
    if "on_disk" not in request.node.name:
        monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


class Pieces:
    def __init__(self, handle: t.Any, points: Points) -> None:
        self.handle = handle
        self.points = points

    def write(self, content: bytes) -> int:
        half = len(content) // 2
        for piece in (content[:half], content[half:]):
            self.points.point("write")
            self.handle.write(piece)
            self.handle.flush()
        return len(content)

    def __enter__(self) -> "Pieces":
        return self

    def __exit__(self, *_exc: t.Any) -> None:
        self.handle.close()

    def __getattr__(self, name: str) -> t.Any:
        return getattr(self.handle, name)


def prepare(root: pathlib.Path) -> Server:
    """A server whose first tree is live, and things that the change has to get right."""
    root.mkdir()
    server = Server(str(root))
    server.put("etc/main.conf", "1\n", 0o640)
    server.put("etc/by-hand", "here before, and taken over\n")
    os.mkdir(server.path("etc/mail"), 0o700)
    os.symlink("by-hand", server.path("etc/link"))
    server.run(
        [
            server.file("etc/main.conf", "1\n", 0o640),
            server.file("etc/services.conf", "1\n"),
            server.file("etc/dropped", "secret\n", 0o600),
        ]
    )
    return server


def change(server: Server) -> Result:
    return server.run(
        [
            server.file("etc/main.conf", "2\n", 0o644),
            server.file("etc/services.conf", "2\n", 0o600),
            server.file("etc/by-hand", "ours\n"),
            server.file("etc/link", "no link\n"),
            server.file("etc/new/below/file", "new\n"),
        ],
        directories=[server.directory("etc/mail", 0o755), server.directory("etc/spool", 0o1777)],
    )


def bad_change(server: Server) -> None:
    with pytest.raises(TransactionError, match="rolled back"):
        server.run([server.file("etc/main.conf", "2 bad\n"), server.file("etc/new", "x\n")])


def put_away(snapshot: Snapshot) -> Snapshot:
    """Without what waits beside the live files, and without directories that are made for it to wait in."""
    kept = {p: v for p, v in snapshot.items() if "/.port587-" not in p}
    return {
        p: v for p, v in kept.items() if "/etc/new" not in p or len(v) > 4 or any(o.startswith(p + "/") for o in kept)
    }


def same(server: Server, now: Snapshot, then: Snapshot, root: str) -> bool:
    """Two snapshots of two servers; of new files the times differ, and so does where the server lies."""
    fixed = 1500000000250000000

    def comparable(snapshot: Snapshot, base: str) -> t.Dict[str, t.Tuple[t.Any, ...]]:
        return {
            p[len(base) :]: tuple(x if not isinstance(x, int) or x < 10**18 or x == fixed else "now" for x in v)
            for p, v in snapshot.items()
        }

    return comparable(now, server.root) == comparable(then, root)


def clean(server: Server) -> bool:
    names = [n for _d, dirs, files in os.walk(server.root) for n in dirs + files]
    return not any(n.startswith((".port587-", "journal")) or n == "keep.new" for n in names)


def points_of(tmp_path: pathlib.Path, what: t.Callable[[Server], t.Any]) -> int:
    server = prepare(tmp_path / "count")
    with pytest.MonkeyPatch.context() as patch:
        points = Points(patch, lambda _count, _what: None)
        what(server)
    return points.count


def killed_at(server: Server, number: int, what: t.Callable[[Server], t.Any]) -> None:
    def act(count: int, _what: str) -> None:
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    pid = os.fork()
    if pid == 0:
        try:
            Points(pytest.MonkeyPatch(), act)
            what(server)
        finally:
            os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])


@pytest.fixture
def wanted(tmp_path: pathlib.Path) -> t.Tuple[Snapshot, str]:
    server = prepare(tmp_path / "wanted")
    change(server)
    assert clean(server)
    return server.snapshot(), server.root


def test_killed_at_every_point(tmp_path: pathlib.Path, wanted: t.Tuple[Snapshot, str]) -> None:
    total = points_of(tmp_path, change)
    assert total > 100
    taken_back = made = 0
    for number in range(1, total + 1):
        server = prepare(tmp_path / ("killed-%d" % number))
        old = server.snapshot()
        killed_at(server, number, change)

        # each file is whole, and is either the old or the new one
        for path, value in put_away(server.snapshot()).items():
            new = wanted[0].get(wanted[1] + path[len(server.root) :])
            assert value == old.get(path) or (new is not None and value[-1] == new[-1]), (number, path, value)

        if number % 2:
            # a run of another part finds it, and takes it back to exactly what was there, unless it was made
            server.run([server.file("etc/other", "x")], name="other", daemon=False)
            now = server.snapshot()
            del now[server.path("etc/other")]
            if same(server, now, wanted[0], wanted[1]):
                made += 1
            else:
                taken_back += 1
                assert now == old, number
            assert server.daemon.loaded() == server.daemon.on_disk(), number
            os.unlink(server.path("etc/other"))

        change(server)
        assert same(server, server.snapshot(), wanted[0], wanted[1]), number
        assert server.daemon.loaded() == server.daemon.on_disk(), number
        assert clean(server), number
        assert server.read("state/fake/original" + server.path("etc/by-hand")) == "here before, and taken over\n"
        assert not change(server).changed
    assert taken_back > made > 0


def test_killed_at_every_point_of_a_roll_back(tmp_path: pathlib.Path) -> None:
    for number in range(1, points_of(tmp_path, bad_change) + 1):
        server = prepare(tmp_path / ("killed-%d" % number))
        old = server.snapshot()
        killed_at(server, number, bad_change)
        bad_change(server)
        assert server.snapshot() == old, number
        assert server.daemon.loaded() == b"1\n1\n", number
        assert clean(server), number


def test_killed_at_every_point_of_a_recovery(tmp_path: pathlib.Path, wanted: t.Tuple[Snapshot, str]) -> None:
    def interrupted(root: pathlib.Path) -> Server:
        server = prepare(root)

        def half(number: int, what: str) -> None:
            if (
                what == "rename"
                and os.path.exists(server.path("etc/main.conf"))
                and server.read("etc/main.conf") == "2\n"
            ):
                os.kill(os.getpid(), signal.SIGKILL)

        pid = os.fork()
        if pid == 0:
            Points(pytest.MonkeyPatch(), half)
            change(server)
            os._exit(0)
        assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
        assert os.path.exists(server.path("state/journal.swapping"))
        return server

    def recover(server: Server) -> None:
        assert server.run([], name="other", daemon=False).recovered

    server = interrupted(tmp_path / "count")
    with pytest.MonkeyPatch.context() as patch:
        points = Points(patch, lambda _count, _what: None)
        recover(server)
    assert points.count > 20
    for number in range(1, points.count + 1):
        server = interrupted(tmp_path / ("killed-%d" % number))
        killed_at(server, number, recover)
        change(server)
        assert same(server, server.snapshot(), wanted[0], wanted[1]), number
        assert server.daemon.loaded() == b"2\n2\n", number
        assert clean(server), number


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_each_system_call_fails_once(tmp_path: pathlib.Path, wanted: t.Tuple[Snapshot, str], number: int) -> None:
    refused = 0
    for point in range(1, points_of(tmp_path, change) + 1):
        server = prepare(tmp_path / ("failed-%d-%d" % (number, point)))
        old, state = server.snapshot(), server.read("state/fake/manifest.json")

        def act(count: int, what: str, point: int = point) -> None:
            if count == point and not what.startswith("after"):
                raise OSError(number, os.strerror(number))

        with pytest.MonkeyPatch.context() as patch:
            Points(patch, act)
            try:
                change(server)
                failed = None
            except TransactionError as exc:
                failed = exc
        if failed:
            refused += 1
            assert put_away(server.snapshot()) == old, (point, failed)
            assert server.read("state/fake/manifest.json") == state
            assert server.daemon.loaded() == server.daemon.on_disk()
            assert os.strerror(number) in failed.message
        change(server)
        assert same(server, server.snapshot(), wanted[0], wanted[1]), point
        assert server.daemon.loaded() == server.daemon.on_disk()
        assert clean(server), point
    assert refused > 50


def test_disk_is_full_from_each_point_on(tmp_path: pathlib.Path, wanted: t.Tuple[Snapshot, str]) -> None:
    """Nothing that needs space succeeds any more, in the roll-back neither."""
    refused = 0
    for point in range(1, points_of(tmp_path, change) + 1):
        server = prepare(tmp_path / ("full-%d" % point))
        old = server.snapshot()

        def act(count: int, what: str, point: int = point) -> None:
            if count >= point and what in NEEDS_SPACE:
                raise OSError(errno.ENOSPC, "No space left on device")

        with pytest.MonkeyPatch.context() as patch:
            Points(patch, act)
            try:
                change(server)
                failed = None
            except TransactionError as exc:
                failed = exc
        if failed:
            refused += 1
            assert "No space left on device" in failed.message
            assert server.snapshot() == old, point
            assert clean(server), point
            assert server.daemon.loaded() == server.daemon.on_disk()
        change(server)
        assert same(server, server.snapshot(), wanted[0], wanted[1]), point
    assert refused > 50


def test_all_is_on_disk_before_a_live_file_is_touched(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a power cut leaves is what was synced: each file written, each directory that it was made in."""
    server = prepare(tmp_path / "power")
    written = set()  # type: t.Set[str]
    phases = []  # type: t.List[str]
    opened, rename, fsync = os.open, os.rename, os.fsync

    def traced_open(path: str, flags: int, *mode: int) -> int:
        if flags & os.O_CREAT:
            written.update((path, os.path.dirname(path)))
        return opened(path, flags, *mode)

    def traced_fsync(descriptor: int) -> None:
        fsync(descriptor)
        written.discard(os.readlink("/proc/self/fd/%d" % descriptor))

    def traced_rename(source: str, target: str) -> None:
        if target.endswith("journal.swapping") or (target.startswith(server.path("etc")) and ".port587" not in target):
            assert not written, target
        if target.endswith("journal.done"):
            assert not written
        phases.append(os.path.basename(target))
        rename(source, target)
        written.add(os.path.dirname(target))
        if target.startswith(server.path("etc")):
            # renames into place reach the disk in their order; they are synced together
            written.discard(os.path.dirname(target))
            late.add(os.path.dirname(target))

    late = set()  # type: t.Set[str]
    monkeypatch.setattr(os, "open", traced_open)
    monkeypatch.setattr(os, "fsync", traced_fsync)
    monkeypatch.setattr(os, "rename", traced_rename)
    change(server)
    assert phases.index("journal.staging") < phases.index("journal.swapping") < phases.index("main.conf")
    assert phases.index("manifest.json") < phases.index("journal.done")
