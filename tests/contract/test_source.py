"""
Rules for every source.
"""

from __future__ import annotations

import os
import shutil

import pytest

from realize.errors import BadRequest, DirectoryGone, PeerError, UnsafePath
from realize.model import (
    MAX_BATCH,
    MAX_BATCH_BYTES,
    PREFIX_STEP,
    Digests,
    Directory,
    Extent,
    Prefix,
    Range,
    Removed,
)
from tests.contract.conftest import contents
from tests.contract.pairs import run, run_all
from tests.contract.steps import all_pages, codes, digest, files_of, removal


class TestList:
    """
    What there is to move.
    """

    def test_files(self, pair, source, here):
        """
        Size, time and permission bits of each; directories above them with theirs,
        parents first.
        """
        (here / "a/b").mkdir(parents=True)
        (here / "a").chmod(0o750)
        (here / "a/b").chmod(0o705)
        (here / "a/b/x").write_bytes(b"12345")
        (here / "a/b/x").chmod(0o4640)
        os.utime(here / "a/b/x", ns=(1, 1_234_567_890_123_456_789))
        (page,) = all_pages(pair, source)
        (file,) = page.files
        assert (file.path, file.size, file.mode) == (b"a/b/x", 5, 0o640)
        assert file.mtime_ns == 1_234_567_890_123_456_789
        assert file.identity
        assert page.directories == [
            Directory(b"a", 0o750),
            Directory(b"a/b", 0o705),
        ]

    def test_pages(self, pair, source, here):
        """
        Each file once, and each page with the directories it needs.
        """
        expected = set()
        for n in range(3000):
            path = here / f"{n % 3}" / f"{n}"
            path.parent.mkdir(exist_ok=True)
            path.touch()
            expected.add(os.fsencode(path.relative_to(here)))
        pages = all_pages(pair, source)
        assert len(pages) > 1
        paths = [file.path for page in pages for file in page.files]
        assert len(paths) == 3000
        assert set(paths) == expected
        for page in pages:
            above = {directory.path for directory in page.directories}
            assert {file.path[:1] for file in page.files} <= above

    def test_only_the_next_page(self, pair, source, here):
        """
        A walk goes forwards, or begins anew.
        """
        (here / "x").touch()
        for cursor in (1, 77):
            with pytest.raises(BadRequest):
                run(pair, source.list(cursor))
        assert list(files_of(pair, source)) == [b"x"]
        assert list(files_of(pair, source)) == [b"x"]

    def test_what_is_not_moved(self, pair, source, here):
        """
        Is told, never skipped in silence.
        """
        (here / "link").symlink_to("x")
        os.mkfifo(here / "pipe")
        (here / ".x.realize-part").touch()
        pages = all_pages(pair, source)
        notices = {
            (notice.path, notice.kind) for page in pages for notice in page.notices
        }
        assert notices == {
            (b"link", "symlink"),
            (b"pipe", "special"),
            (b".x.realize-part", "partial"),
        }
        assert all(page.files == [] for page in pages)

    def test_hidden_files_without_changing_anything(self, pair, source, here):
        """
        What a crash left is told of, and put back only by a listing that may.
        """
        hidden = here / ".realize-moved-0123456789abcdef"
        hidden.mkdir()
        (hidden / "a").write_bytes(b"a")
        page = run(pair, source.list(0, restore=False))
        assert [(each.path, each.kind) for each in page.notices] == [(b"a", "hidden")]
        assert page.files == []
        assert (hidden / "a").exists()
        page = run(pair, source.list(0))
        assert [file.path for file in page.files] == [b"a"]
        assert not hidden.exists()

    def test_root_that_vanished(self, pair, source, here):
        """
        Not an empty directory.
        """
        shutil.rmtree(here)
        with pytest.raises(DirectoryGone):
            run(pair, source.list(0))


class TestRead:
    """
    Bytes and digests of the version that was listed.
    """

    def test_whole_files(self, pair, source, here):
        """
        Many small files in one batch, each with its digest, empty ones too.
        """
        expected = {b"%d" % n: b"%d" % n * (n % 5) for n in range(50)}
        for path, content in expected.items():
            (here / path.decode()).write_bytes(content)
        files = files_of(pair, source)
        ranges = [Range(p, files[p].identity, 0, len(c)) for p, c in expected.items()]
        extents, payload = run(pair, source.read(ranges))
        assert extents == [Extent(len(c), digest(c)) for c in expected.values()]
        assert bytes(payload) == b"".join(expected.values())

    def test_in_parts(self, pair, source, here):
        """
        The last part carries the digest, also when they are asked for in one go.
        """
        content = os.urandom(10_000)
        (here / "x").write_bytes(content)
        identity = files_of(pair, source)[b"x"].identity
        asked = [
            source.read([Range(b"x", identity, start, 1000)])
            for start in range(0, 10_000, 1000)
        ]
        answers = run_all(pair, *asked)
        assert b"".join(payload for _, payload in answers) == content
        digests = [extents[0].digest for extents, _ in answers]
        assert digests == [b""] * 9 + [digest(content)]

    def test_digest_then_read_on(self, pair, source, here):
        """
        A transfer that is resumed: the rest is read, the digest is of the whole.
        """
        content = os.urandom(5000)
        (here / "x").write_bytes(content)
        identity = files_of(pair, source)[b"x"].identity
        (digests,) = run(pair, source.digest([Prefix(b"x", identity, 2000)]))
        assert digests == Digests([digest(content[:2000])])
        extents, payload = run(pair, source.read([Range(b"x", identity, 2000, 3000)]))
        assert bytes(payload) == content[2000:]
        assert extents == [Extent(3000, digest(content))]

    def test_digests_in_steps(self, pair, source, here):
        """
        Cumulative, the last of the whole length.
        """
        with (here / "x").open("wb") as file:
            file.truncate(PREFIX_STEP + 10)
        identity = files_of(pair, source)[b"x"].identity
        (digests,) = run(pair, source.digest([Prefix(b"x", identity, PREFIX_STEP + 5)]))
        assert digests == Digests(
            [digest(bytes(PREFIX_STEP)), digest(bytes(PREFIX_STEP + 5))]
        )

    @pytest.mark.parametrize("operation", ["read", "digest"])
    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ("append", "SOURCE_CHANGED"),
            ("truncate", "SOURCE_CHANGED"),
            ("replace", "SOURCE_CHANGED"),
            ("link", "SOURCE_CHANGED"),
            ("delete", "NO_SUCH_FILE"),
            ("open", "STILL_OPEN"),
        ],
    )
    def test_files_that_change(self, pair, source, here, operation, change, code):
        """
        Are not taken; the others of the batch are.
        """
        for name in ("a", "x", "z"):
            (here / name).write_bytes(b"content")
        files = files_of(pair, source)
        writer = None
        if change == "append":
            with (here / "x").open("ab") as file:
                file.write(b"more")
        elif change == "truncate":
            os.truncate(here / "x", 3)
        elif change == "replace":
            (here / "new").write_bytes(b"content")
            (here / "new").rename(here / "x")
        elif change == "link":
            (here / "x").unlink()
            (here / "x").symlink_to("a")
        elif change == "delete":
            (here / "x").unlink()
        else:
            writer = (here / "x").open("ab")
        names = (b"a", b"x", b"z")
        if operation == "read":
            ranges = [Range(name, files[name].identity, 0, 7) for name in names]
            results, payload = run(pair, source.read(ranges))
            assert bytes(payload) == b"content" * 2
            assert codes(results) == ["Extent", code, "Extent"]
        else:
            prefixes = [Prefix(name, files[name].identity, 0) for name in names]
            results = run(pair, source.digest(prefixes))
            assert codes(results) == ["Digests", code, "Digests"]
        if writer:
            writer.close()

    def test_names_are_checked(self, pair, source, here, tmp_path):
        """
        Nothing outside is read.
        """
        (tmp_path / "secret").write_bytes(b"secret")
        (here / "x").write_bytes(b"secret")
        (here / "link").symlink_to("..")
        identity = files_of(pair, source)[b"x"].identity
        names = (b"../secret", b"/etc/passwd", b"link/secret")
        ranges = [Range(name, identity, 0, 6) for name in names]
        extents, payload = run(pair, source.read(ranges))
        assert codes(extents) == ["UNSAFE_PATH"] * 3
        assert bytes(payload) == b""

    def test_batches_that_are_too_large(self, pair, source, here):
        """
        Refused as a whole, whether by items or by bytes.
        """
        (here / "x").write_bytes(b"content")
        identity = files_of(pair, source)[b"x"].identity
        with pytest.raises(BadRequest):
            run(pair, source.digest([Prefix(b"x", identity, 0)] * (MAX_BATCH + 1)))
        with pytest.raises(BadRequest):
            run(pair, source.read([Range(b"x", identity, 0, MAX_BATCH_BYTES + 1)]))


class TestRemove:
    """
    Only the version that was moved goes.
    """

    def test_in_two_steps(self, pair, source, here):
        """
        Files go, directories stay; gone already is no failure.
        """
        (here / "d").mkdir()
        (here / "d/x").write_bytes(b"content")
        (here / "d/y").write_bytes(b"content")
        files = files_of(pair, source)
        for word in ("hide", "unlink"):
            wanted = [removal(files[b"d/x"], b"content", word)]
            (answer,) = run(pair, source.remove(wanted))
            assert answer.found
        for word in ("hide", "unlink"):
            wanted = [removal(files[b"d/x"], b"content", word)]
            assert run(pair, source.remove(wanted)) == [Removed(found=False)]
        assert contents(here) == {"d": None, "d/y": b"content"}

    def test_prune(self, pair, source, here):
        """
        Empty directories go, and those above that are empty then; but no others, and
        nothing else.
        """
        for directory in ("a/b/c", "a/kept", "empty", "d"):
            (here / directory).mkdir(parents=True)
        (here / "d/x").write_bytes(b"content")
        (here / "link").symlink_to("empty")
        run(pair, source.prune([b"a/b/c", b"d", b"d/x", b"none/at/all", b"link"]))
        left = {"a": None, "a/kept": None, "empty": None, "d": None, "d/x": b"content"}
        assert {**contents(here), "link": None} == {**left, "link": None}
        (here / "link").unlink()
        (here / "d/x").unlink()
        run(pair, source.prune([b"a/kept", b"d", b"empty"]))
        assert contents(here) == {}
        with pytest.raises(UnsafePath):
            run(pair, source.prune([b"../here"]))

    def test_changed_files_stay(self, pair, source, here):
        """
        Whatever has become of them.
        """
        for name in ("appended", "replaced", "open", "good"):
            (here / name).write_bytes(b"content")
        files = files_of(pair, source)
        with (here / "appended").open("ab") as file:
            file.write(b"!")
        (here / "new").write_bytes(b"CONTENT")
        (here / "new").rename(here / "replaced")
        names = (b"appended", b"good", b"replaced", b"open")
        with (here / "open").open("ab"):
            wanted = [removal(files[name], b"content") for name in names]
            results = run(pair, source.remove(wanted))
        assert codes(results) == [
            "SOURCE_CHANGED",
            "Removed",
            "SOURCE_CHANGED",
            "STILL_OPEN",
        ]
        run(pair, source.close())
        left = contents(here)
        assert left.pop("good") == b"content"
        assert left == {
            "appended": b"content!",
            "replaced": b"CONTENT",
            "open": b"content",
        }

    def test_hide_then_unlink(self, pair, source, here):
        """
        Gone from sight at once, and for good in the end.
        """
        (here / "x").write_bytes(b"content")
        file = files_of(pair, source)[b"x"]
        hidden = run(pair, source.remove([removal(file, b"content", "hide")]))
        assert hidden[0].found
        assert not (here / "x").exists()
        unlinked = run(pair, source.remove([removal(file, b"content", "unlink")]))
        assert unlinked == [Removed()]
        assert contents(here) == {}

    def test_hide_then_restore(self, pair, source, here):
        """
        As if nothing had been.
        """
        (here / "x").write_bytes(b"content")
        file = files_of(pair, source)[b"x"]
        run(pair, source.remove([removal(file, b"content", "hide")]))
        run(pair, source.remove([removal(file, b"content", "restore")]))
        assert contents(here) == {"x": b"content"}

    def test_close_puts_hidden_files_back(self, pair, source, here):
        """
        A session that ends in between loses nothing.
        """
        (here / "x").write_bytes(b"content")
        file = files_of(pair, source)[b"x"]
        run(pair, source.remove([removal(file, b"content", "hide")]))
        run(pair, source.close())
        assert contents(here) == {"x": b"content"}
        with pytest.raises(PeerError):
            run(pair, source.list(0))

    def test_root_that_vanished(self, pair, source, here):
        """
        Files that are gone together with their root are not "gone already".
        """
        (here / "x").write_bytes(b"content")
        file = files_of(pair, source)[b"x"]
        here.rename(here.parent / "elsewhere")
        with pytest.raises(DirectoryGone):
            run(pair, source.remove([removal(file, b"content")]))
