"""Reads what the bundle script saw in a place where something was left: records, each with a NUL behind it.

All of it is the sandbox's word. What cannot be understood is passed over, for the commit that comes of it is judged on
the trusted side. Pure. Paths are text with bytes that are no UTF-8 as surrogates, so that they find their files again.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_GITLINK = "160000"
_SHA = re.compile(r"^[0-9a-f]{40}([0-9a-f]{24})?$")
_NOTHING = "000000"
_MOST_RECORDS = 250_000
_LONGEST = 4200  # no path can be longer, and what is looked for in one grows with its length


@dataclass(frozen=True)
class Entry:
    """One path git shows as changed: `kind` is `1` (tracked), `?` (not) or `u` (unmerged); modes as in `git status`."""

    kind: str
    path: str
    head_mode: str = ""
    index_mode: str = ""
    mode: str = ""

    @property
    def is_new(self) -> bool:
        """Not in the commit, whether it was staged or not."""
        return self.kind == "?" or self.head_mode == _NOTHING

    @property
    def is_new_gitlink(self) -> bool:
        return self.head_mode != _GITLINK and _GITLINK in (self.mode, self.index_mode)

    @property
    def is_link_without_folder(self) -> bool:
        """A link to another repository whose folder is gone, as empty ones are soon; its removal is not staged."""
        return self.kind == "1" and self.index_mode == _GITLINK and self.mode == _NOTHING

    @property
    def changes_mode(self) -> bool:
        """Of a file that stays a file: executable or not."""
        files = {"100644", "100755"}
        return self.mode != self.head_mode and {self.mode, self.head_mode} <= files


@dataclass(frozen=True)
class Branch:
    """`label`: how people are told of it; a tag, or no branch at all, may hold commits as well."""

    sha: str
    label: str


@dataclass(frozen=True)
class Worktree:
    """Another linked worktree of the same repository, most often below the checkout. `branch`: '' for none."""

    path: str
    branch: str
    sha: str

    def is_at(self, path: str) -> bool:
        return self.path.endswith(f"/{path}/.git")


@dataclass
class Survey:
    """`how` HEAD stands to the order's branch: `ahead` (or there), `behind`, `apart`, `unborn`. Shas are full.

    `counts`: commits of a sha that neither the order's branch nor the start reaches. `newest`: of the free branches
    that go on from the start those that no other one reaches. `caches`: left out already. `dirt`: written by checkout.
    `special`: what git keeps no file for.
    """

    unreadable: bool = False
    operations: list[str] = field(default_factory=list)
    stash: str = ""
    head: str = ""
    tip: str = ""
    how: str = "ahead"
    name: str = ""
    branches: list[Branch] = field(default_factory=list)
    newest: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    worktrees: list[Worktree] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    nested: set[str] = field(default_factory=set)
    submodules: set[str] = field(default_factory=set)
    present: set[str] = field(default_factory=set)
    dirt: set[str] = field(default_factory=set)
    special: list[str] = field(default_factory=list)
    caches: list[str] = field(default_factory=list)

    @property
    def is_on_branch(self) -> bool:
        return not _SHA.match(self.name)

    def nested_in(self, entry: Entry) -> str:
        """The repository inside the checkout that an entry is, or belongs to; '' for none, or a proper submodule."""
        path = entry.path.rstrip("/")
        is_link = entry.is_new_gitlink or (entry.kind == "?" and entry.path.endswith("/"))
        if is_link:
            return "" if path in self.submodules else path
        if not entry.is_new:
            return ""
        above = path
        while above := above.rpartition("/")[0]:
            if above in self.nested and above not in self.submodules:
                return above
        return ""

    def worktree_at(self, path: str) -> Worktree | None:
        return next((item for item in self.worktrees if item.is_at(path)), None)

    @property
    def repositories(self) -> frozenset[str]:
        """Those inside the checkout that would be found by what they left there."""
        if self.operations or self.unreadable or not self.worktrees:
            return frozenset()
        return frozenset(filter(None, map(self.nested_in, self.entries[:10_000])))


def read_survey(data: bytes) -> Survey:
    """Whatever of it can be read."""
    every = data.decode("utf-8", "surrogateescape").split("\0")[:-1]
    records = (record for record in every[:_MOST_RECORDS] if len(record) < _LONGEST)
    survey = Survey()
    pending: list[tuple[str, str]] = []
    for record in records:
        word, _, rest = record.partition(" ")
        if record == "caches":
            survey.caches = list(_caches(records))
        elif word == "inner":
            survey.worktrees.extend(_worktree(*item, "") for item in pending)
            at, _, path = rest.partition("\t")
            pending = [(at, path)]
        elif word == "count" and pending:
            sha = rest.partition(" ")[0]
            survey.worktrees.append(_worktree(*pending.pop(), sha))
            _read(survey, word, rest)
        else:
            survey.worktrees.extend(_worktree(*item, "") for item in pending)
            pending = []
            _read(survey, word, rest, record)
    return survey


def _worktree(at: str, path: str, sha: str) -> Worktree:
    return Worktree(path, at.removeprefix("ref: refs/heads/") if at.startswith("ref: ") else "", sha)


def _caches(records: Iterator[str]) -> Iterator[str]:
    """`source`, line, pattern, path; what the repository's own .gitignore names is nobody else's business."""
    for source in records:
        _line, _pattern, path = next(records, ""), next(records, ""), next(records, "")
        if path and source.endswith("/info/exclude"):
            yield path


def _read(survey: Survey, word: str, rest: str, record: str = "") -> None:
    match word:
        case "unreadable":
            survey.unreadable = True
        case "operation":
            survey.operations.append(rest)
        case "head" | "tip" if not rest or _SHA.match(rest):
            setattr(survey, word, rest)
        case "how" if rest in {"ahead", "behind", "apart", "unborn"}:
            survey.how = rest
        case "stash" if _SHA.match(rest):
            survey.stash = rest
        case "name":
            survey.name = rest
        case "branch":
            sha, _, name = rest.partition(" ")
            survey.branches.append(Branch(sha, f"branch {name}"))
        case "loose":
            survey.branches.append(Branch(*rest.partition(" ")[::2]))
        case "newest":
            survey.newest = [sha for sha in rest.split() if _SHA.match(sha)]
        case "count":
            sha, _, number = rest.partition(" ")
            survey.counts[sha] = int(number) if number.isdigit() else 0
        case "size":
            number, _, path = rest.partition(" ")
            survey.sizes[path] = int(number) if number.isdigit() else 0
        case "nested":
            survey.nested.add(rest.rpartition("/")[0])
        case "present":
            survey.present.add(rest)
        case "special":
            survey.special.append(rest)
        case "dirt":
            survey.dirt.add(rest)
        case "?":
            survey.entries.append(Entry("?", rest))
        case "1" | "u":
            _read_entry(survey, word, rest)
        case _ if record.startswith("submodule."):
            survey.submodules.add(record.partition("\n")[2].rstrip("/"))


def _read_entry(survey: Survey, word: str, rest: str) -> None:
    """`1 XY sub mH mI mW hH hI path` and `u XY sub m1 m2 m3 mW h1 h2 h3 path`, without the first word."""
    fields = rest.split(" ", 7 if word == "1" else 9)
    if word == "1" and len(fields) == 8:
        survey.entries.append(Entry("1", fields[7], fields[2], fields[3], fields[4]))
    elif word == "u" and len(fields) == 10:
        survey.entries.append(Entry("u", fields[9]))
