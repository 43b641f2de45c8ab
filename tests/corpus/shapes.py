"""Repositories of odd but honest shapes: each such as people really have. One function makes one; `SHAPES` has all.

A shape's function gets an empty repository. What an order on it must come to is `completed`, or else in `ENDS`.
"""

import struct
from collections.abc import Callable, Iterator
from hashlib import sha1

from tests.corpus.maker import EXECUTABLE, LINK, SUBMODULE, Content, Maker

Shape = Callable[[Maker], object]
SHAPES: dict[str, Shape] = {}
ENDS = {"no_commits": "repository_empty"}  # by name, the category with which the order must fail
_README: dict[str | bytes, Content] = {"README.md": "# Sample\n"}


def shape(function: Shape) -> Shape:
    SHAPES[function.__name__] = function
    return function


def _files(**more: Content) -> dict[str | bytes, Content]:
    return _with(*more.items())


def _with(*pairs: tuple[str | bytes, Content]) -> dict[str | bytes, Content]:
    return {**_README, **dict(pairs)}


# --- names ---


@shape
def names_with_spaces(to: Maker) -> None:
    to.commit(
        _with(
            ("a file.txt", "a\n"),
            (" leading", "b\n"),
            ("trailing ", "c\n"),
            ("two  spaces/in a folder/x", "d\n"),
        )
    )


@shape
def names_in_two_unicode_forms(to: Maker) -> None:
    to.commit(
        _with(
            ("caf\u00e9.txt", "composed\n"),
            ("cafe\u0301.txt", "decomposed\n"),
            ("日本語/ファイル", "x\n"),
            ("🙂.md", "x\n"),
        )
    )


@shape
def names_with_control_characters(to: Maker) -> None:
    to.commit(
        _with(("new\nline", "a\n"), ("tab\there", "b\n"), ("bell\x07", "c\n"), ("esc\x1b[31mred", "d\n"))
    )


@shape
def names_with_quotes(to: Maker) -> None:
    to.commit(
        _with(('say "hi"', "a\n"), ("it's", "b\n"), ("back\\slash", "c\n"), ("`id`", "d\n"), ("$(id)", "e\n"))
    )


@shape
def names_like_options(to: Maker) -> None:
    to.commit(_with(("-n", "a\n"), ("--help", "b\n"), ("-rf/x", "c\n"), ("--", "d\n")))


@shape
def names_like_patterns(to: Maker) -> None:
    to.commit(
        _with(
            ("*", "a\n"),
            ("[a-z]", "b\n"),
            (":(top)x", "c\n"),
            ("!important", "d\n"),
            ("#hash", "e\n"),
            ("?", "f\n"),
        )
    )


@shape
def names_of_255_bytes(to: Maker) -> None:
    to.commit(_with(("x" * 255, "a\n"), ("d" * 200 + "/" + "y" * 250, "b\n")))


@shape
def names_sixty_folders_deep(to: Maker) -> None:
    to.commit(_with(("/".join(f"d{n}" for n in range(60)) + "/file", "a\n")))


@shape
def names_that_are_no_utf8(to: Maker) -> None:
    to.commit(_with((b"latin-\xe9.txt", "a\n"), (b"\xff\xfe/x", "b\n")))


@shape
def names_that_differ_in_case(to: Maker) -> None:
    to.commit(_with(("readme.md", "other\n"), ("Src/a", "a\n"), ("src/a", "b\n")))


@shape
def names_windows_keeps_for_itself(to: Maker) -> None:
    to.commit(_with(("aux", "a\n"), ("con.txt", "b\n"), ("nul", "c\n"), ("trailing.", "d\n"), ("a:b", "e\n")))


@shape
def names_like_refs(to: Maker) -> None:
    to.commit(
        _with(
            ("HEAD", "a\n"),
            ("main", "b\n"),
            ("origin/main", "c\n"),
            ("refs/heads/main", "d\n"),
            ("FETCH_HEAD", "e\n"),
        )
    )


@shape
def names_like_git_files(to: Maker) -> None:
    to.commit(
        _with(
            (".gitx", "a\n"),
            ("index.lock", "b\n"),
            ("config", "c\n"),
            ("hooks/pre-commit", (EXECUTABLE, "#!/bin/sh\nexit 1\n")),
        )
    )


# --- links ---


@shape
def links_inside(to: Maker) -> None:
    to.commit(
        _with(("link", (LINK, "README.md")), ("docs/up", (LINK, "../README.md")), ("folder", (LINK, "docs")))
    )


@shape
def links_to_nowhere(to: Maker) -> None:
    to.commit(
        _with(
            ("dangling", (LINK, "not/there")),
            ("self", (LINK, "self")),
            ("a", (LINK, "b")),
            ("b", (LINK, "a")),
        )
    )


@shape
def links_out_of_the_tree(to: Maker) -> None:
    to.commit(
        _with(("passwd", (LINK, "/etc/passwd")), ("up", (LINK, "../../../..")), ("null", (LINK, "/dev/null")))
    )


@shape
def links_for_guidance(to: Maker) -> None:
    to.commit(
        _with(
            ("AGENTS.md", "# Rules\n\nBe kind.\n"),
            ("CLAUDE.md", (LINK, "AGENTS.md")),
            (".claude/CLAUDE.md", (LINK, "../AGENTS.md")),
        )
    )


@shape
def links_with_odd_targets(to: Maker) -> None:
    to.commit(_with(("newline", (LINK, "a\nb")), ("bytes", (LINK, b"\xff\xfe")), ("long", (LINK, "x" * 250))))


# --- attributes and line ends ---


@shape
def line_ends_that_disagree_with_attributes(to: Maker) -> None:
    to.commit(
        _with(
            (".gitattributes", "* text=auto\n"), ("dos.txt", "one\r\ntwo\r\n"), ("mixed.txt", "one\r\ntwo\n")
        )
    )


@shape
def line_ends_of_windows(to: Maker) -> None:
    to.commit(
        _with(
            (".gitattributes", "*.bat eol=crlf\n*.txt text eol=crlf\n"),
            ("run.bat", "echo\n"),
            ("a.txt", "a\nb\n"),
            ("b.txt", "a\r\nb\r\n"),
        )
    )


@shape
def line_ends_eol_lf_over_crlf(to: Maker) -> None:
    to.commit(
        _with((".gitattributes", "* text eol=lf\n"), ("a.sln", "one\r\ntwo\r\n"), ("logo.bin", b"\0\r\n\0"))
    )


@shape
def attributes_ident(to: Maker) -> None:
    to.commit(
        _with((".gitattributes", "*.c ident\n"), ("a.c", "/* $Id$ */\n"), ("b.c", "/* $Id: 0123 $ */\n"))
    )


@shape
def attributes_working_tree_encoding(to: Maker) -> None:
    text = "text working-tree-encoding=UTF-16LE-BOM eol=crlf"
    to.commit(_with((".gitattributes", f"*.rc {text}\n"), ("a.rc", "STRING ä\n"), ("b.rc", "two\nlines\n")))


@shape
def attributes_of_filters_nobody_has(to: Maker) -> None:
    to.commit(
        _with(
            (".gitattributes", "*.enc filter=git-crypt diff=git-crypt\n*.ipynb filter=nbstripout\n"),
            ("a.enc", b"\0GITCRYPT\0x"),
            ("n.ipynb", "{}\n"),
        )
    )


@shape
def attributes_for_merges_and_exports(to: Maker) -> None:
    to.commit(
        _with(
            (
                ".gitattributes",
                "CHANGELOG.md merge=union\ntests export-ignore\n*.png binary\nv export-subst\n",
            ),
            ("CHANGELOG.md", "x\n"),
            ("tests/t", "t\n"),
            ("v", "$Format:%H$\n"),
        )
    )


@shape
def attributes_that_are_broken(to: Maker) -> None:
    to.commit(
        _with(
            (".gitattributes", b"\xff\xfe* te\0xt\n[attr\n" + b"x" * 3000 + b" text\n!a text\n"), ("a", "b\n")
        )
    )


# --- encodings ---


@shape
def encodings_of_files(to: Maker) -> None:
    to.commit(
        _with(
            ("utf16.txt", "hello\n".encode("utf-16")),
            ("latin1.txt", b"caf\xe9\n"),
            ("bom.py", b"\xef\xbb\xbfx = 1\n"),
            ("nul.dat", b"a\0b"),
            ("no-newline", "end"),
        )
    )


@shape
def encodings_of_messages(to: Maker) -> None:
    to.commit(_README, b"caf\xe9\n", headers=b"encoding ISO-8859-1\n")
    to.commit(_files(a="1\n"), b"\xff\xfe without any header\n")
    to.commit(_files(a="2\n"), "🙂 Ünïcödé \u202e reversed\n", author="Zoë 🙂 <zoë@example.com>")


@shape
def encodings_of_a_shift_jis_project(to: Maker) -> None:
    to.commit(
        _with(("読んで.txt".encode("shift_jis"), "日本\n".encode("shift_jis"))), "最初\n".encode("shift_jis")
    )


# --- histories ---


@shape
def history_of_600_commits(to: Maker) -> None:
    stream = b""
    for number in range(600):
        stream += b"commit refs/heads/main\ncommitter A <a@example.com> %d +0000\ndata 2\nc\n" % (
            1_600_000_000 + number
        )
        stream += b"M 100644 inline f%d\ndata 2\n%d\n" % (number % 40, number % 10)
    to.import_(stream)


@shape
def history_of_merges(to: Maker) -> None:
    root = to.commit(_README)
    arms = [
        to.commit_of(to.tree(_with((f"arm{n}", "x\n"))), parents=[root], message=f"Arm {n}\n")
        for n in range(5)
    ]
    everything = to.tree(_with(*((f"arm{n}", "x\n") for n in range(5))))
    to.point("main", to.commit_of(everything, parents=arms, message="Merge five\n"))


@shape
def history_with_two_roots(to: Maker) -> None:
    one = to.commit(_README)
    other = to.commit_of(to.tree({"lib/x": "x\n"}), message="Another project\n")
    to.point("main", to.commit_of(to.tree(_with(("lib/x", "x\n"))), parents=[one, other], message="Join\n"))


@shape
def history_that_is_one_empty_commit(to: Maker) -> None:
    to.point("main", to.commit_of(to.tree({})))


@shape
def history_with_empty_messages(to: Maker) -> None:
    to.commit(_README, "")
    to.commit(_files(a="a\n"), "\n\n\n")


@shape
def history_of_odd_dates(to: Maker) -> None:
    to.commit(_README, date="0 +0000")
    to.commit(_files(a="1\n"), date="4102444800 -1130")
    to.commit(_files(a="2\n"), date="1767225600 +1345")


@shape
def history_of_nameless_people(to: Maker) -> None:
    to.commit(_README, author=" <>")
    to.commit(_files(a="1\n"), author="Only Name <>")
    to.commit(_files(a="2\n"), author='O\'Brien, "Bob" [x] <a+b@example.com>')


@shape
def history_with_signatures(to: Maker) -> None:
    signature = b"gpgsig -----BEGIN PGP SIGNATURE-----\n \n iQEz\n -----END PGP SIGNATURE-----\n"
    to.commit(_README, headers=signature)


@shape
def history_with_old_modes(to: Maker) -> None:
    """Git before 1.0 wrote group-writable modes; fsck still warns of them."""
    to.point("main", to.commit_of(_raw_tree(to, [(b"100664", b"old.txt", to.blob("x\n"))])))
    to.commit(_files(**{"old.txt": "y\n"}))


@shape
def history_with_zero_padded_modes(to: Maker) -> None:
    """Early GitHub's web editor wrote `040000` for a folder."""
    inner = to.tree({"a": "a\n"})
    to.point("main", to.commit_of(_raw_tree(to, [(b"040000", b"dir", inner)])))
    to.commit(_with(("dir/a", "b\n")))


@shape
def history_with_trailers_of_others(to: Maker) -> None:
    to.commit(
        _README,
        "Start\n\nWork-Order: wo-aaaaaaaa\nWork-Order-Phase: planning\nSigned-off-by: A <a@example.com>\n",
    )


@shape
def history_with_huge_message(to: Maker) -> None:
    to.commit(_README, "Big\n\n" + "words and words\n" * 40_000)


@shape
def history_packed_with_a_graph(to: Maker) -> None:
    for number in range(30):
        to.commit(_files(a=f"{number}\n"))
    to.git("gc", "--quiet")
    to.git("commit-graph", "write", "--reachable")


@shape
def refs_by_the_thousand(to: Maker) -> None:
    sha = to.commit(_README)
    lines = "".join(f"create refs/heads/old/{n} {sha}\ncreate refs/tags/v{n} {sha}\n" for n in range(1500))
    to.git("update-ref", "--stdin", stdin=lines.encode())


@shape
def refs_beside_branches(to: Maker) -> None:
    sha = to.commit(_README)
    for name in (
        "refs/notes/commits",
        "refs/pull/7/head",
        "refs/stash",
        "refs/changes/01/1/1",
        "refs/replace/" + "1" * 40,
    ):
        to.git("update-ref", name, sha)


@shape
def refs_tag_named_like_the_branch(to: Maker) -> None:
    sha = to.commit(_README)
    to.commit(_files(a="1\n"))
    to.git("update-ref", "refs/tags/main", sha)
    tag = f"object {sha}\ntype commit\ntag v1\ntagger A <a@example.com> 1767225600 +0000\n\nA tag\n"
    to.git("update-ref", "refs/tags/v1", to.git("mktag", stdin=tag.encode()))


@shape
def branch_named_otherwise(to: Maker) -> None:
    _default(to, "trunk")


@shape
def branch_with_slashes(to: Maker) -> None:
    _default(to, "release/2.x/stable")


@shape
def branch_named_like_a_sha(to: Maker) -> None:
    _default(to, "deadbeef" * 5)


@shape
def branch_that_would_collide(to: Maker) -> None:
    """`feat` is a branch, so that `feat/x` could not be one; an order's own name has no slash."""
    to.point("feat", to.commit(_README))


@shape
def no_commits(to: Maker) -> None:
    """An empty repository, as GitHub makes it."""


@shape
def no_commits_main_elsewhere(to: Maker) -> None:
    to.branch = "develop"
    to.commit(_README)
    to.git("symbolic-ref", "HEAD", "refs/heads/develop")


# --- hooks, tools, settings ---


@shape
def hooks_of_husky(to: Maker) -> None:
    to.commit(
        _with(
            ("package.json", '{"scripts": {"prepare": "husky"}}\n'),
            (".husky/pre-commit", (EXECUTABLE, "#!/bin/sh\nexit 1\n")),
            (".husky/_/husky.sh", "exit 1\n"),
        )
    )


@shape
def hooks_of_pre_commit(to: Maker) -> None:
    to.commit(
        _with(
            (".pre-commit-config.yaml", "repos: []\n"),
            (".githooks/commit-msg", (EXECUTABLE, "#!/bin/sh\nexit 1\n")),
        )
    )


@shape
def settings_of_agents(to: Maker) -> None:
    settings = '{"hooks": {"SessionStart": [{"hooks": [{"type": "command", "command": "exit 2"}]}]}}\n'
    to.commit(
        _with(
            (".claude/settings.json", settings),
            (".mcp.json", '{"mcpServers": {}}\n'),
            (".cursorrules", "Be brief.\n"),
        )
    )


@shape
def settings_of_this_product(to: Maker) -> None:
    to.commit(
        _with(
            (
                ".claude/commands/agent_workflow_plan.md",
                "---\ndescription: Our way\n---\nPlan for $1 as $2.\n",
            )
        )
    )


@shape
def ignores_everything(to: Maker) -> None:
    to.commit(_with((".gitignore", "*\n!README.md\n")))


@shape
def ignores_what_the_phases_leave(to: Maker) -> None:
    to.commit(
        _with(
            (".gitignore", "specs/\ntest_results.json\nrehearsal\n"),
            ("sub/.gitignore", "/*\n"),
            ("sub/kept", "x\n"),
        )
    )


@shape
def tracks_what_it_ignores(to: Maker) -> None:
    to.commit(
        _with(
            (".gitignore", "build/\n__pycache__/\n*.log\n"),
            ("build/out", "x\n"),
            ("pkg/__pycache__/a.pyc", b"\0"),
            ("a.log", "x\n"),
            ("node_modules/m/index.js", "x\n"),
        )
    )


@shape
def executables_and_empty_files(to: Maker) -> None:
    to.commit(
        _with(
            ("run.sh", (EXECUTABLE, "#!/bin/sh\n")),
            ("empty", ""),
            ("dir/.gitkeep", ""),
            ("tool", (EXECUTABLE, b"\x7fELF\0")),
        )
    )


@shape
def has_plans_and_results_already(to: Maker) -> None:
    to.commit(
        _with(
            ("specs/old.md", "# Old\n"),
            ("test_results.json", '{"passed": 1, "failed": 9, "tests": []}\n'),
            ("specs/README", "x\n"),
        )
    )


@shape
def has_templates_of_pull_requests(to: Maker) -> None:
    to.commit(
        _with(
            (".github/PULL_REQUEST_TEMPLATE/a.md", "## A\n"),
            (".github/pull_request_template.md", "## Why\n<!-- words -->\n"),
            ("docs/Pull_Request_Template.txt", "x\n"),
        )
    )


@shape
def holds_conflict_marks_on_purpose(to: Maker) -> None:
    marks = "<<<<<<< HEAD\nours\n=======\ntheirs\n>>>>>>> side\n"
    to.commit(
        _with(
            ("docs/how-to-merge.md", f"# Merging\n\n{marks}"),
            ("tests/data/conflict.txt", marks),
            ("heading.rst", "Title\n=======\n"),
        )
    )


@shape
def holds_examples_of_secrets(to: Maker) -> None:
    to.commit(
        _with(
            (
                ".env.example",
                "DATABASE_URL=postgres://postgres:postgres@localhost:5432/app\nAWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE\n",
            )
        )
    )


# --- other repositories inside ---


@shape
def submodule_on_another_host(to: Maker) -> None:
    modules = '[submodule "lib"]\n\tpath = lib\n\turl = https://example.com/other/lib.git\n'
    to.commit(_with((".gitmodules", modules), ("lib", (SUBMODULE, "1" * 40))))


@shape
def submodule_beside_the_repository(to: Maker) -> None:
    modules = (
        '[submodule "vendor/lib"]\n\tpath = vendor/lib\n\turl = ../lib.git\n\tbranch = .\n\tupdate = merge\n'
    )
    to.commit(_with((".gitmodules", modules), ("vendor/lib", (SUBMODULE, "2" * 40))))


@shape
def submodule_without_a_name(to: Maker) -> None:
    """A gitlink that no `.gitmodules` tells of: somebody once added a folder with a repository in it."""
    to.commit(_with(("vendor/old", (SUBMODULE, "3" * 40))))


@shape
def submodules_that_are_gone(to: Maker) -> None:
    to.commit(
        _with((".gitmodules", '[submodule "gone"]\n\tpath = gone\n\turl = https://example.com/gone.git\n'))
    )


@shape
def lfs_pointers(to: Maker) -> None:
    to.commit(
        _with(
            (".gitattributes", "*.psd filter=lfs diff=lfs merge=lfs -text\n"),
            ("art/a.psd", _pointer("a", 12)),
            ("art/b.psd", _pointer("b", 3_000_000_000)),
        )
    )


@shape
def lfs_pointers_and_real_files(to: Maker) -> None:
    """Somebody without LFS committed the content itself."""
    to.commit(
        _with(
            (".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n"),
            ("a.bin", _pointer("a", 4)),
            ("b.bin", b"\0\1\2\3"),
        )
    )


@shape
def lfs_on_another_server(to: Maker) -> None:
    to.commit(
        _with(
            (".lfsconfig", "[lfs]\n\turl = https://example.com/lfs\n"),
            (".gitattributes", "*.psd filter=lfs -text\n"),
            ("a.psd", _pointer("c", 9)),
        )
    )


# --- size ---


@shape
def tree_of_4000_files(to: Maker) -> None:
    to.import_(b"".join(_imported((f"src/f{n}.txt", b"x\n") for n in range(4000))))


@shape
def tree_of_2000_folders(to: Maker) -> None:
    to.import_(b"".join(_imported((f"a{n % 50}/b{n}/c/d.txt", b"x\n") for n in range(2000))))


@shape
def tree_with_a_file_of_30_mb(to: Maker) -> None:
    noise = sha1(b"noise", usedforsecurity=False).digest()
    to.commit(_with(("model.bin", noise * 1_500_000), ("README", "x\n")))


@shape
def file_of_one_long_line(to: Maker) -> None:
    to.commit(_with(("bundle.min.js", "x" * 3_000_000), ("data.json", "[" + "1," * 500_000 + "1]")))


@shape
def monorepo_with_guidance_at_each_level(to: Maker) -> None:
    files: list[tuple[str | bytes, Content]] = [
        ("CLAUDE.md", "@AGENTS.md\n@docs/rules.md\n"),
        ("AGENTS.md", "Root.\n"),
        ("docs/rules.md", "Rules.\n"),
    ]
    for name in ("api", "web", "cli"):
        files += [
            (f"packages/{name}/AGENTS.md", f"In {name}.\n"),
            (f"packages/{name}/src/a.ts", "x\n"),
            (f"packages/{name}/package.json", "{}\n"),
        ]
    to.commit(_with(*files))


@shape
def monorepo_with_300_packages(to: Maker) -> None:
    pairs = (
        (f"packages/p{n}/{name}", b"x\n")
        for n in range(300)
        for name in ("package.json", "CLAUDE.md", "src/index.ts")
    )
    to.import_(b"".join(_imported(pairs)))


@shape
def guidance_that_is_huge(to: Maker) -> None:
    to.commit(_with(("CLAUDE.md", "A rule of the house.\n" * 20_000), ("AGENTS.md", b"\xff\xfe\0binary\0")))


@shape
def guidance_that_imports_itself(to: Maker) -> None:
    to.commit(
        _with(
            ("CLAUDE.md", "@docs/a.md @../../etc/passwd @~/secret @/etc/hostname\n"),
            ("docs/a.md", "@b.md\n"),
            ("docs/b.md", "@a.md\n@../CLAUDE.md\n"),
        )
    )


def _default(to: Maker, branch: str) -> None:
    to.branch = branch
    to.git("symbolic-ref", "HEAD", f"refs/heads/{branch}")
    to.commit(_README)


def _pointer(letter: str, size: int) -> str:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{letter * 64}\nsize {size}\n"


def _raw_tree(to: Maker, entries: list[tuple[bytes, bytes, str]]) -> str:
    raw = b"".join(
        mode + b" " + name + b"\0" + struct.pack("20s", bytes.fromhex(sha)) for mode, name, sha in entries
    )
    return to.git("hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=raw)


def _imported(files: Iterator[tuple[str, bytes]]) -> Iterator[bytes]:
    yield b"commit refs/heads/main\ncommitter A <a@example.com> 1767225600 +0000\ndata 2\nc\n"
    for name, data in files:
        yield b"M 100644 inline %s\ndata %d\n%s\n" % (name.encode(), len(data), data)
