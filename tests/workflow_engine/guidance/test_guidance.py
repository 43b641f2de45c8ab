"""What a repository says to agents reaches them: text of the base commit, followed within bounds, and said."""

import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandboxes.trusted_git.git import GitSettings, TrustedGit
from sandboxes.trusted_git.tree import Absence, CommitTree, TreeFile
from tests.fakes.git_http import git
from workorders.workflow_engine.guidance import text as guidance_text
from workorders.workflow_engine.guidance.compose import (
    GUIDANCE_BYTES,
    Guidance,
    compose,
    near_places,
    with_references,
)
from workorders.workflow_engine.guidance.files import (
    IMPORT_DEPTH,
    MOST_FILES,
    BaseGuidance,
    read_command_file,
    read_guidance,
    read_places,
)

type Content = str | bytes


def git_in(work: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.invalid")
    return git("-C", str(work), *identity, *arguments)


class Repository:
    """A bare repository whose one commit has these files; a content `-> target` is a symbolic link."""

    def __init__(self, folder: Path, files: dict[str, Content]) -> None:
        work = folder / "work"
        git("init", "-q", "-b", "main", str(work))
        for name, content in files.items():
            path = work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str) and content.startswith("-> "):
                path.symlink_to(content[3:])
            else:
                path.write_bytes(content.encode() if isinstance(content, str) else content)
        git_in(work, "add", "--all", "--force")
        git_in(work, "commit", "-q", "--allow-empty", "-m", "Start")
        self.git_dir = work / ".git"
        self.sha = git_in(work, "rev-parse", "HEAD")
        self.git = TrustedGit(GitSettings())

    def guidance(self) -> BaseGuidance:
        return read_guidance(self.git, self.git_dir, self.sha)

    def told(self, *texts: str, changed: tuple[str, ...] = ()) -> Guidance:
        base, named = self.guidance(), guidance_text.named_paths([*texts, *changed])
        near, unread = near_places(base, named)
        nested = read_places(self.git, self.git_dir, self.sha, near)
        return compose(base, nested, base_sha=self.sha, named=named, unread=unread)


@pytest.fixture
def repository(tmp_path: Path) -> type:
    class Here(Repository):
        def __init__(self, files: dict[str, Content]) -> None:
            super().__init__(tmp_path, files)

    return Here


WAYS: dict[str, dict[str, Content]] = {
    "import": {"CLAUDE.md": "@AGENTS.md\n", "AGENTS.md": "RULE"},
    "import in a sentence": {"CLAUDE.md": "Read (@docs/agents.md), then go.", "docs/agents.md": "RULE"},
    "import of an import": {"CLAUDE.md": "@a/b.md", "a/b.md": "- see @../c.md.", "c.md": "RULE"},
    "import with a space": {"CLAUDE.md": "@my\\ rules.md", "my rules.md": "RULE"},
    "link": {"CLAUDE.md": "-> AGENTS.md", "AGENTS.md": "RULE"},
    "chain of links": {"CLAUDE.md": "-> .github/a.md", ".github/a.md": "-> ../b.md", "b.md": "RULE"},
    "link to a folder": {".claude": "-> .agents", ".agents/CLAUDE.md": "RULE"},
    "import behind a link": {
        "CLAUDE.md": "-> docs/main.md",
        "docs/main.md": "@more.md",
        "docs/more.md": "RULE",
    },
    "link that became text": {"CLAUDE.md": "AGENTS.txt", "AGENTS.txt": "RULE"},
    "AGENTS.md alone": {"AGENTS.md": "RULE"},
    "AGENTS.override.md": {"AGENTS.override.md": "RULE"},
    ".claude/CLAUDE.md": {".claude/CLAUDE.md": "RULE"},
    "other case": {"claude.md": "RULE"},
    "Agents.md": {"Agents.md": "RULE"},
    "GEMINI.md": {"GEMINI.md": "RULE"},
    "Copilot": {".github/copilot-instructions.md": "RULE"},
    "Copilot's instructions": {".github/instructions/a.instructions.md": "---\napplyTo: '**'\n---\nRULE"},
    ".cursorrules": {".cursorrules": "RULE"},
    "Cursor's rules": {".cursor/rules/deep/a.mdc": "---\nglobs:\nalwaysApply: true\n---\nRULE"},
    "Claude's rules": {".claude/rules/deep/a.md": "RULE"},
    "linked rule": {".claude/rules/a.md": "-> ../../docs/a.md", "docs/a.md": "RULE"},
    "linked folder of rules": {".claude/rules": "-> ../docs", "docs/a.md": "RULE"},
    "Windsurf": {".windsurfrules": "RULE"},
    "Windsurf's rules": {".windsurf/rules/a.md": "---\ntrigger: always_on\n---\nRULE"},
    "Cline's rules": {".clinerules/01-style.md": "RULE"},
    "with a byte order mark": {"CLAUDE.md": b"\xef\xbb\xbfRULE"},
    "UTF-16": {"CLAUDE.md": "RULE".encode("utf-16")},
    "UTF-16 without a mark": {"CLAUDE.md": "RULE and more".encode("utf-16-le")},
    "Latin-1": {"CLAUDE.md": "RULE für alle".encode("latin-1")},
    "NUL": {"CLAUDE.md": b"x" * 200 + b"RU\0LE"},
    "Windows line ends": {"CLAUDE.md": b"one\r\nRULE\r\n"},
}


@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_write_guidance_reaches_the_agent_once(way: str, repository: type) -> None:
    told = repository(WAYS[way]).told()
    assert told.text.count("RULE") == 1
    assert told.files
    assert told.size > 0
    assert not told.refused


def test_all_ways_together_come_in_order_and_what_is_the_same_comes_once(repository: type) -> None:
    told = repository(
        {
            "CLAUDE.md": "First, see @docs/import.md\n",
            "docs/import.md": "Second",
            ".claude/CLAUDE.md": "Third",
            "AGENTS.md": "Fourth\r\n",
            "GEMINI.md": "Fourth\n",
            ".cursorrules": "-> AGENTS.md",
        }
    ).told()
    words = ["First", "Second", "Third", "Fourth"]
    assert [told.text.count(word) for word in words] == [1, 1, 1, 1]
    assert sorted(words, key=told.text.index) == words
    assert told.files == (
        "CLAUDE.md",
        "docs/import.md (imported by CLAUDE.md)",
        ".claude/CLAUDE.md",
        "AGENTS.md (the same as .cursorrules, GEMINI.md)",
    )


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"CLAUDE.md": "@~/.claude/mine.md"}, "@~/.claude/mine.md in CLAUDE.md: outside the repository"),
        ({"CLAUDE.md": "@/etc/passwd"}, "@/etc/passwd in CLAUDE.md: outside the repository"),
        ({"CLAUDE.md": "@../../secret.md"}, "@../../secret.md in CLAUDE.md: outside the repository"),
        ({"CLAUDE.md": r"@C:\rules.md"}, "outside the repository"),
        ({"CLAUDE.md": "@gone.md"}, "@gone.md in CLAUDE.md: not there"),
        ({"CLAUDE.md": "@./docs", "docs/a.md": ""}, "a folder"),
        ({"CLAUDE.md": "@out.md", "out.md": "-> /etc/passwd"}, "leads out of the repository"),
        ({"CLAUDE.md": "-> ../outside.md"}, "CLAUDE.md: a link that leads out of the repository"),
        ({"CLAUDE.md": "-> gone.md"}, "CLAUDE.md: a link that leads nowhere"),
        ({"CLAUDE.md": "-> AGENTS.md", "AGENTS.md": "-> CLAUDE.md"}, "a link that leads back to itself"),
        ({"CLAUDE.md": "@logo.png", "logo.png": b"\x89PNG\0\0\0\1\2\3"}, "logo.png in CLAUDE.md: not text"),
        (
            {"CLAUDE.md": "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"},
            "CLAUDE.md: kept in Git LFS",
        ),
    ],
)
def test_what_is_refused_is_said_and_nothing_else_is_lost(
    files: dict[str, Content], reason: str, repository: type
) -> None:
    told = repository({**files, "GEMINI.md": "OTHER"}).told()
    assert any(reason in refused for refused in told.refused)
    assert reason in told.text
    assert "OTHER" in told.text
    assert "root:" not in told.text


def test_imports_end_after_five_files_and_cycles_end_at_once(repository: type) -> None:
    chain = {f"{number}.md": f"Depth {number}. @{number + 1}.md" for number in range(1, 9)}
    told = repository({"CLAUDE.md": "@1.md @loop.md", "loop.md": "LOOP @CLAUDE.md @loop.md", **chain}).told()
    assert [number for number in range(1, 9) if f"Depth {number}." in told.text] == list(
        range(1, IMPORT_DEPTH + 1)
    )
    assert told.text.count("LOOP") == 1
    assert told.refused == ("@6.md in 5.md: imported over more than 5 files",)


def test_code_comments_people_and_packages_are_no_imports() -> None:
    text = """\
`@code.md` and ``a ` @code.md`` but @yes.md, mail me@code.md
```bash
@code.md
```
~~~
```
@code.md
~~~

    @code.md

- item
    - @nested.md
<!-- @code.md
@code.md --> **@bold.md**
"""
    assert [guidance_text.spellings(found)[-1] for found in guidance_text.imports_in(text)] == [
        "yes.md",
        "nested.md",
        "bold.md",
    ]
    assert [guidance_text.looks_like_file(word) for word in ("ann", "types/node", "a.md", "./x", "~/x")] == [
        False,
        False,
        True,
        True,
        True,
    ]


NESTED: dict[str, Content] = {
    "CLAUDE.md": "ROOT",
    "packages/api/CLAUDE.md": "API-RULE @rules.md",
    "packages/api/rules.md": "API-IMPORT",
    "packages/api/v2/AGENTS.md": "DEEP-RULE",
    "packages/web/AGENTS.md": "WEB-RULE" + "\n" + "w " * 10_000,
    "node_modules/x/CLAUDE.md": "FOREIGN",
    ".claude/rules/ts.md": "---\npaths: src/**/*.{ts,tsx}\n---\nTS-RULE" + "\n" + "t " * 7_000,
}


@pytest.mark.parametrize(
    ("texts", "changed", "near"),
    [
        (("Fix packages/api/handler.py",), (), {"API-RULE", "API-IMPORT"}),
        (("Fix `packages/api`.",), (), {"API-RULE", "API-IMPORT"}),
        (("Nothing named",), ("packages/web/index.js",), {"WEB-RULE"}),
        (("./packages/api/v2/x.py:12 fails",), (), {"API-RULE", "API-IMPORT", "DEEP-RULE"}),
        ((), ("src/deep/a.tsx",), {"TS-RULE"}),
        (("packages/apiary/x.py and node_modules/x",), (), set()),
    ],
)
def test_guidance_near_to_what_is_named_or_changed_is_shown_and_the_rest_is_named(
    texts: tuple[str, ...], changed: tuple[str, ...], near: set[str], repository: type
) -> None:
    told = repository(NESTED).told(*texts, changed=changed)
    rules = {"API-RULE", "API-IMPORT", "DEEP-RULE", "WEB-RULE", "TS-RULE"}
    assert {rule for rule in rules if rule in told.text} == near
    assert "ROOT" in told.text
    assert "FOREIGN" not in told.text
    for path, rule in (("packages/web/AGENTS.md", "WEB-RULE"), (".claude/rules/ts.md", "TS-RULE")):
        assert path in told.text
        assert any(name.startswith(path) for name in told.named) is (rule not in near)


def test_many_rules_with_many_globs_take_no_time(repository: type) -> None:
    globs = ",".join(f"**/*x{n}*a*b*{{p,q,r,s,t,u,v,w}}" for n in range(50))
    rules = {f".claude/rules/{n}.md": f"---\npaths: {globs}\n---\nRule {n}" for n in range(70)}
    place = repository(rules)
    words = " ".join(f"d{n % 7}/e/f/g/h/{'ab' * 20}{n}.t{n % 300}" for n in range(15_000))
    started = time.monotonic()
    place.told(words)
    assert time.monotonic() - started < 6


def test_short_guidance_for_other_parts_is_shown_too(repository: type) -> None:
    told = repository(
        {"packages/api/AGENTS.md": "API-RULE", "packages/web/.claude/CLAUDE.md": "WEB-RULE"}
    ).told()
    assert "API-RULE" in told.text
    assert "for packages/web/**" in told.text
    assert not told.named


def test_the_same_guidance_in_several_folders_is_about_all_of_them(repository: type) -> None:
    text = "SAME\n" + "a " * 7_000
    told = repository({"a/AGENTS.md": text, "b/AGENTS.md": text, "b/CLAUDE.md": "-> AGENTS.md"}).told(
        "b/x.py"
    )
    assert told.text.count("SAME") == 1
    assert "for b/**, a/**" in told.text


def test_large_files_are_cut_at_a_line_and_leave_room_for_the_others(repository: type) -> None:
    lines = "".join(f"line {number}\n" for number in range(60_000))
    told = repository({"CLAUDE.md": lines, "AGENTS.md": "AGENTS-RULE", ".cursorrules": "x" * 500_000}).told()
    assert len(told.text.encode()) <= GUIDANCE_BYTES
    assert "AGENTS-RULE" in told.text
    kept, _, rest = told.text.partition("\n[… cut here: CLAUDE.md has ")
    assert lines.startswith(kept.partition("Contents of CLAUDE.md:\n\n")[2] + "\n")
    assert rest.startswith(f"{len(lines)} bytes; read the rest of it in the file]")
    assert told.cut == (f"CLAUDE.md: {len(lines)} bytes", ".cursorrules: 500000 bytes")


def test_very_many_files_are_bounded_in_number_bytes_and_time(repository: type) -> None:
    files: dict[str, Content] = {f"p{n}/CLAUDE.md": f"Rule {n} @more.md" for n in range(300)}
    files |= {f"p{n}/more.md": f"More {n}" for n in range(300)}
    files["p7/CLAUDE.md"] = "NEAR"
    files["CLAUDE.md"] = "".join(f"@big/{n}.md\n" for n in range(200))
    files |= {f"big/{n}.md": f"{n} " * 5_000 for n in range(200)}
    place = repository(files)
    started = time.monotonic()
    told = place.told("p7/x.py")
    assert time.monotonic() - started < 5
    assert len(told.text.encode()) <= GUIDANCE_BYTES
    assert len(place.guidance().general) <= MOST_FILES
    assert "NEAR" in told.text
    assert len(told.named) >= 299
    assert any("beyond the number" in refused for refused in told.refused)


def test_files_that_only_name_others_are_asked_for_together(
    repository: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = repository(
        {f"d{number}/CLAUDE.md": f"../e{number}.md" for number in range(60)}
        | {f"e{number}.md": f"RULE {number}" for number in range(60)}
    )
    asked: list[str] = []
    run = here.git.run

    def counted(*arguments: str, **more: Any) -> Any:
        asked.append(arguments[0])
        return run(*arguments, **more)

    monkeypatch.setattr(here.git, "run", counted)
    told = here.told(" ".join(f"d{number}/a.py" for number in range(60)))
    assert told.text.count("RULE") >= 40
    assert len(asked) <= 6, asked


def test_names_that_are_no_text_do_no_harm(repository: type) -> None:
    odd = os.fsdecode(b"p\xff/CLAUDE.md")
    told = repository({odd: "ODD", "line\nbreak/CLAUDE.md": "BREAK", "CLAUDE.md": "ROOT"}).told("x")
    assert "ROOT" in told.text
    told.text.encode()


def test_a_repository_without_guidance_says_nothing(repository: type) -> None:
    place = repository({"README.md": "# Widgets"})
    assert place.told("fix it") == Guidance()
    assert not place.guidance().may_have_commands


def test_a_submodules_guidance_is_not_there(repository: type, tmp_path: Path) -> None:
    place = repository({"CLAUDE.md": "@sub/CLAUDE.md"})
    work = place.git_dir.parent
    git_in(work, "update-index", "--add", "--cacheinfo", f"160000,{place.sha},sub")
    git_in(work, "commit", "-q", "-m", "Sub")
    place.sha = git_in(work, "rev-parse", "HEAD")
    assert place.told("sub/x").refused == ("@sub/CLAUDE.md in CLAUDE.md: not there",)


# --- commands ---


@pytest.mark.parametrize(
    "files",
    [
        {".claude/commands/go.md": "Do $1. @docs/how.md"},
        {".claude/commands/go.md": "-> ../../docs/go.md", "docs/go.md": "Do $1. @how.md"},
        {".claude/commands": "-> ../prompts", "prompts/go.md": "Do $1. @../docs/how.md"},
        {".claude/commands/go.md": "---\ndescription: x @no.md\n---\nDo $1.\n\n@../../docs/how.md"},
    ],
)
def test_a_command_is_found_behind_links_with_what_it_imports(
    files: dict[str, Content], repository: type
) -> None:
    place = repository({**files, "docs/how.md": "HOW-TO"})
    content, imported = read_command_file(place.git, place.git_dir, place.sha, ".claude/commands/go.md")
    assert content is not None
    assert not imported.refused
    if b"@docs" not in content and b"@how" not in content:
        assert "HOW-TO" in with_references("Do it.", imported)
    text = with_references("Do it, see @docs/how.md, says @ann.", imported)
    assert text.startswith("Do it, see docs/how.md, says @ann.")


def test_a_command_that_is_a_link_to_nowhere_is_refused(repository: type) -> None:
    place = repository({".claude/commands/go.md": "-> /etc/passwd"})
    content, imported = read_command_file(place.git, place.git_dir, place.sha, ".claude/commands/go.md")
    assert content is None
    assert imported.refused[0].reason == Absence.OUTSIDE


def test_the_tree_says_what_a_path_is(repository: type) -> None:
    place = repository(
        {
            "a b.md": "x",
            "f/x": "",
            "l": "-> a b.md",
            "out": "-> ../..",
            "e/missing": "",
            "n": "-> nix\nmissing",
        }
    )
    tree = CommitTree(place.git, place.git_dir, place.sha)
    paths = ["a b.md", "l", "out", "f", "n", "nix", "a b.md/x", "../x", "", "a\nb", "x" * 5000]
    found = tree.look_up(paths)
    assert list(found) == paths
    kinds = [type(found[path]) if isinstance(found[path], TreeFile) else found[path] for path in paths]
    assert kinds == [
        *(TreeFile, TreeFile, Absence.OUTSIDE, Absence.FOLDER, Absence.DANGLING),
        *[Absence.MISSING] * 6,
    ]


@settings(max_examples=200)
@given(st.text(alphabet="`@ \n~ab.-<!>/\\", max_size=300))
def test_any_text_is_searched(text: str) -> None:
    for found in guidance_text.imports_in(text):
        for spelling in guidance_text.spellings(found):
            path = guidance_text.resolved("a/b", spelling)
            assert path is None or not path.startswith(("../", "/"))


SLOW = {
    "ticks": "`" * 100_000,
    "runs of ticks": "".join("`" * n + " " for n in range(440)),
    "comments": "<!--" * 25_000,
    "escapes": "@a\\ " * 25_000,
    "quotes": "> " * 50_000,
    "items": "- " * 50_000,
    "imports": "@x " * 33_000,
    "slashes": "/" * 100_000,
    "braces": "{" * 100_000,
}


@pytest.mark.parametrize("name", SLOW)
def test_no_text_takes_long(name: str) -> None:
    text = SLOW[name]
    started = time.monotonic()
    guidance_text.imports_in(text)
    guidance_text.named_paths([text])
    scope = guidance_text.scope_of(guidance_text.front_matter(f"---\nglobs: {text}\n---\n")[0])
    guidance_text.is_about([*scope, "**/" * 40 + "*a*a*a*a*b"], frozenset({"a" * 400 + ".x"}))
    assert time.monotonic() - started < 2
