"""
What people type who know rsync, rclone or mv, and what it is called here.
"""

from __future__ import annotations

from typing import Final

#: Options of other programs, and what to say of them.
OPTIONS: Final[tuple[tuple[tuple[str, ...], str], ...]] = (
    (
        ("-a", "--archive", "-r", "--recursive", "-p", "--perms", "-t", "--times"),
        "is what always happens",
    ),
    (
        ("--remove-source-files", "--delete-empty-src-dirs", "--fsync"),
        "is what always happens; --remove-directories takes emptied directories too",
    ),
    (
        ("-c", "--checksum", "--partial", "-P", "-S", "--sparse", "--append-verify"),
        "is what always happens: content is verified, resumed, and keeps its holes",
    ),
    (("--progress", "--human-readable"), "is the default: --output progress"),
    (
        ("-v", "--verbose", "-vv", "-i", "--itemize-changes", "--stats"),
        "is --output log, or --output json for programs",
    ),
    (("-q", "--quiet", "--silent"), "is --output quiet"),
    (("-z", "--zc"), "is the default where it helps: --compress auto"),
    (("--bwlimit", "--tpslimit"), "is --throttle RATE, as in --throttle 1M"),
    (
        ("--exclude-from", "--include-from", "--filter", "-F", "--filter-file"),
        "is --filter-from FILE, in the syntax of .gitignore",
    ),
    (("--from-file", "--files-from-raw"), "is --files-from FILE"),
    (
        ("--timeout", "--contimeout", "--retries", "--low-level-retries"),
        "is not needed: "
        "a lost connection is noticed and made again until --max-duration",
    ),
    (("--max-transfer", "--cutoff-mode"), "is --max-duration, a time"),
    (
        ("--delete", "--delete-after", "--delete-before", "--del", "--delete-excluded"),
        "does not exist: nothing is ever deleted at the destination",
    ),
    (
        ("--inplace", "--append", "-W", "--whole-file"),
        "does not exist: a name never leads to an incomplete file",
    ),
    (
        ("-e", "--rsh"),
        "is --ssh COMMAND, for HOST:/PATH",
    ),
    (
        ("--rsync-path",),
        "is --remote-realize PATH, for HOST:/PATH",
    ),
    (
        ("--transfers", "--checkers", "--multi-thread-streams", "--fast-list"),
        "is not needed: what is in progress at once follows the line",
    ),
    (
        ("-L", "--copy-links", "-l", "--links", "-k", "--copy-dirlinks"),
        "does not exist: symbolic links stay, and are counted",
    ),
    (
        (
            "-o",
            "--owner",
            "-g",
            "--group",
            "-X",
            "--xattrs",
            "-A",
            "--acls",
            "-H",
            "--hard-links",
            "--metadata",
            "-M",
        ),
        "does not exist: content, permission bits and times are what is kept",
    ),
    (
        (
            "-u",
            "--update",
            "--ignore-existing",
            "--no-clobber",
            "--backup",
            "-b",
            "--suffix",
            "--backup-dir",
            "-f",
            "--force",
            "--interactive",
        ),
        "is --on-conflict: replace, keep-both, backup, skip or fail",
    ),
)

_SAYINGS: Final = {option: says for options, says in OPTIONS for option in options}


def saying(option: str) -> str:
    """What to say of an option of another program; empty if it is of none."""
    return _SAYINGS.get(option, "")
