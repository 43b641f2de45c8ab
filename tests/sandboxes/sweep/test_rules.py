"""The sweep's rules on their own: what is decided by what a place says, and what a cache or a conflict is."""

import pytest

from sandboxes.sweep.caches import as_git_excludes, cache_of, patterns
from sandboxes.sweep.conflict_markers import conflicts_in
from sandboxes.sweep.private_files import below, git_folders, is_secret_file
from sandboxes.sweep.rules import (
    RULES,
    LeftOut,
    SweepLimits,
    advice_for,
    decide,
    from_json,
    in_one_line,
    merged,
    sentences,
    shown,
    work_in,
)
from sandboxes.sweep.survey import read_survey

START, TIP, OTHER = "1" * 40, "2" * 40, "3" * 40
LIMITS = SweepLimits(file_bytes=100, new_files=3)


def survey(*records: str, head: str = TIP, tip: str = TIP, how: str = "ahead") -> bytes:
    lines = (f"head {head}", f"tip {tip}", f"how {how}", "name agent/wo-1", *records)
    return "".join(f"{line}\0" for line in lines).encode("utf-8", "surrogateescape")


def decided(*records: str, **where: str) -> tuple[str, tuple[str, ...], list[tuple[str, str]], bool]:
    found = decide(read_survey(survey(*records, **where)), start=START, limits=LIMITS)
    return found.tip, found.paths, [(item.rule, item.path) for item in found.left_out], found.settled


def tracked(path: str, head: str = "100644", index: str = "100644", now: str = "100644") -> str:
    return f"1 .M N... {head} {index} {now} {'a' * 40} {'a' * 40} {path}"


def test_a_plain_leftover_is_committed() -> None:
    found = decided("? new", tracked("old"), "? a b\nc", "size 100 new")
    assert found == (TIP, ("new", "old", "a b\nc"), [], True)


def test_bytes_that_are_no_text_find_their_file_again() -> None:
    name = b"odd\xff".decode("utf-8", "surrogateescape")
    assert decided(f"? {name}")[1] == (name,)
    assert shown(name) == "odd\ufffd"
    assert shown("a\x1b[31m\u202eb") == "a\ufffd[31m\ufffdb"


@pytest.mark.parametrize(
    ("records", "rule", "path"),
    [
        (("? big", "size 101 big"), "too_large", "big"),
        ((tracked("big"), "size 101 big"), "too_large", "big"),
        (("? x/",), "nested_repository", "x"),
        (("nested x/.git", "? x/a"), "nested_repository", "x"),
        ((tracked("x", head="000000", index="160000", now="160000"),), "nested_repository", "x"),
        (("? x/HEAD", "? x/config", "? x/objects/1/2"), "nested_repository", "x"),
        (("? a/.env",), "secret_file", "a/.env"),
        (("? a.py.orig",), "cache", "a.py.orig"),
        (("? .env/bin/x", "? .env/pyvenv.cfg"), "cache", ".env/"),
        (("? a/node_modules/b",), "cache", "a/node_modules/"),
        (("? t/target/x", "present t/Cargo.toml"), "cache", "t/target/"),
        (("? deps/x/y", "present mix.exs"), "cache", "deps/"),
        (("? v/pyvenv.cfg", "? v/bin/x"), "cache", "v/"),
        ((tracked("lines"), "dirt lines"), "checkout", "lines"),
        (("special run/sock",), "special_file", "run/sock"),
        (("operation MERGE_HEAD", "? a"), "unfinished_operation", ""),
        ((f"u UU N... 100644 100644 100644 100644 {'a' * 40} {'a' * 40} {'a' * 40} f",), "unfinished_operation", ""),
        (("? 1", "? 2", "? 3", "? 4"), "too_many_files", ""),
        (("unreadable 1", "? a"), "unreadable", ""),
        ((f"stash {OTHER}",), "stash", ""),
    ],
)  # fmt: skip
def test_each_rule(records: tuple[str, ...], rule: str, path: str) -> None:
    _tip, paths, left_out, _settled = decided(*records)
    assert paths == ()
    assert left_out == [(rule, path)]


def test_a_proper_submodule_and_a_moved_one_are_committed() -> None:
    moved = tracked("old", head="160000", index="160000", now="160000")
    assert decided("? x/", "submodule.x.path\nx", moved)[1:3] == (("x/", "old"), [])


def test_a_link_whose_folder_is_gone_stays_and_a_staged_removal_is_work() -> None:
    gone = tracked("old", head="160000", index="160000", now="000000")
    assert decided(gone, "? new")[1:3] == (("new",), [])
    assert decided(tracked("old", head="160000", index="000000", now="000000"))[1] == ("old",)


def test_a_mode_that_was_changed_is_work_also_where_the_content_is_checkouts() -> None:
    assert decided(tracked("run", now="100755"), "dirt run")[1] == ("run",)
    assert decided(tracked("link", head="120000", index="120000"), "dirt link")[1] == ()


def test_caches_and_size_come_before_the_count() -> None:
    records = [f"? __pycache__/{number}" for number in range(9)]
    assert decided(*records, "? a", "? b", "? c")[1] == ("a", "b", "c")


@pytest.mark.parametrize(
    ("where", "records", "tip", "rules"),
    [
        ({"head": OTHER, "how": "ahead"}, (), OTHER, []),
        ({"head": START, "how": "behind"}, (), TIP, []),
        ({"head": START, "how": "behind"}, ("? a",), TIP, ["older_commit"]),
        ({"head": OTHER, "how": "apart"}, (f"count {OTHER} 2",), TIP, ["commits_elsewhere"]),
        (
            {"head": OTHER, "how": "ahead"},
            ("operation rebase-merge", f"count {OTHER} 1"),
            TIP,
            ["unfinished_operation"],
        ),
        ({"head": OTHER, "how": "ahead"}, ("operation MERGE_HEAD",), OTHER, ["unfinished_operation"]),
        (
            {"head": START, "tip": START},
            (f"branch {OTHER} f", f"newest {OTHER}", f"count {OTHER} 1"),
            OTHER,
            [],
        ),
        (
            {"head": START, "tip": START},
            (f"branch {OTHER} f", f"branch {TIP} g", f"newest {OTHER} {TIP}", f"count {OTHER} 1"),
            START,
            ["commits_elsewhere"],
        ),
        ({}, (f"branch {OTHER} f", f"newest {OTHER}", f"count {OTHER} 1"), TIP, ["commits_elsewhere"]),
    ],
)
def test_where_the_branch_is_to_be(
    where: dict[str, str], records: tuple[str, ...], tip: str, rules: list[str]
) -> None:
    found, _paths, left_out, settled = decided(*records, **where)
    assert found == tip
    assert [rule for rule, _path in left_out] == rules
    assert settled == (tip == where.get("head", TIP) and "unfinished_operation" not in rules)


def test_a_survey_that_lies_or_is_cut_breaks_nothing() -> None:
    for data in (
        b"",
        b"\0\0",
        b"1 x\0u y\0? ",
        b"inner a\0inner b\tc\0caches\0a\0b\0",
        b"size x y\0head zz\0count\0",
    ):
        decide(read_survey(data), start=START, limits=LIMITS)


def test_every_rule_has_words_and_findings_survive_the_database() -> None:
    every = [LeftOut(rule, "a/b", "more") for rule in RULES]
    assert from_json([item.as_json() for item in every]) == tuple(every)
    assert from_json([{"rule": "of a later release"}, 1, None]) == ()
    assert len(sentences(every)) == len(RULES) - 1, "what checkout does is nothing to tell"
    assert advice_for(every)
    assert "program's own" not in work_in(every)


def test_many_of_a_kind_are_told_together() -> None:
    many = merged(LeftOut("cache", f"{number}/") for number in range(99))
    assert len(many) == 40
    assert in_one_line(many).startswith("0/, 1/, 2/, 3/, 4/ and 35 more ")


def test_the_list_is_kept_as_data_and_git_reads_it_too() -> None:
    assert len(patterns()) > 80
    assert "**/.yarn/cache/" in as_git_excludes().splitlines()
    assert "target/" not in as_git_excludes().splitlines()
    for name in (
        "dist/a.js",
        "build/a",
        "lib/a",
        "app.log",
        "target/a",
        ".env.example",
        "vendor/a.go",
        "bin/run",
    ):
        assert cache_of(name, frozenset()) == ""


@pytest.mark.parametrize(
    "path",
    [".env", "a/.env", ".env.production", ".ENV.local", ".env/prod", ".envrc", ".netrc", "k/a.p12", "a.JKS"],
)
def test_where_secrets_are_kept(path: str) -> None:
    assert is_secret_file(path)


@pytest.mark.parametrize(
    "path",
    [
        ".env.example",
        ".env.local.sample",
        "a/.env.template",
        ".env.dist",
        "env",
        "a.env.py",
        ".environment",
        "p12",
    ],
)
def test_what_only_looks_like_it(path: str) -> None:
    assert not is_secret_file(path)


def test_a_folder_of_gits_own_is_known_by_what_is_in_it() -> None:
    paths = ["a/x/HEAD", "a/x/config", "b/HEAD", "c/config", "HEAD", "config"]
    assert git_folders(paths) == {"a/x"}
    assert below("a/x/refs/heads/main", frozenset({"a/x"})) == "a/x"
    assert below("a/xy", frozenset({"a/x"})) == ""


CONFLICT = "+<<<<<<< HEAD\n+a\n+=======\n+b\n+>>>>>>> side\n"


@pytest.mark.parametrize(
    ("patch", "count"),
    [
        (CONFLICT, 1),
        (CONFLICT * 2, 2),
        ("+<<<<<<< HEAD\r\n+=======\r\n+>>>>>>> x\r\n", 1),
        ("+Title\n+=======\n", 0),
        ("+<<<<<<< HEAD\n+=======\n", 0),
        ("+=======\n+>>>>>>> x\n", 0),
        (f" <<<<<<< here already\n{CONFLICT}", 0),
        (CONFLICT.replace("+<", "+    <"), 0),
        (CONFLICT.replace("+", "-"), 0),
        ("+<<<<<<< HEAD\n+a\n+||||||| base\n+x\n+=======\n+b\n+>>>>>>> side\n", 1),
    ],
)
def test_whole_conflicts_only(patch: str, count: int) -> None:
    assert conflicts_in(patch) == count
