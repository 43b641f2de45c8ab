"""The sweep: what of an agent's leftovers is committed unasked, and what is left out. The one place that decides it.

`RULES` is the table; `docs/sweep.md` says it to users. Pure: `decide` goes by what the sandbox said of itself
(`survey`), and the trusted side judges the commit that came of it by the same rules from git's objects.
"""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sandboxes.sweep.bundle_script import LEFTOVERS as LEFTOVERS
from sandboxes.sweep.bundle_script import SWEEP_TRAILER as SWEEP_TRAILER
from sandboxes.sweep.caches import cache_of
from sandboxes.sweep.private_files import below, git_folders, is_secret_file
from sandboxes.sweep.survey import Entry, Survey

LEFTOVERS_SUBJECT = "chore: keep changes the agent left uncommitted"
GITLINKS = "gitlinks"  # as the trailer names it
GITLINKS_SUBJECT = "chore: take out links to unreachable repositories"
FILE_LIMIT_BYTES = 10 * 1024 * 1024
MOST_NEW_FILES = 500  # more than that is a program's own, not somebody's work
MOST_FINDINGS = 40
_NAMED = 5


@dataclass(frozen=True)
class SweepRule:
    """`says`: the finding in words, with `{path}` and `{detail}`. `is_work`: the place is kept for it.

    `makes_draft`: what is delivered all the same is not ready to merge. `advice`: what a person does about it.
    `is_told`: to people and agents; what a repository does by itself is in log and API only.
    """

    says: str
    advice: str
    is_work: bool = True
    makes_draft: bool = False
    is_told: bool = True


RULES: Mapping[str, SweepRule] = {
    "unfinished_operation": SweepRule(
        "{detail} was begun and not finished; nothing of it was committed",
        "Ask for the operation to be finished, or take the work from the place that was kept.",
        makes_draft=True,
    ),
    "conflict_markers": SweepRule(
        "{path} holds conflict markers ({detail})",
        "Ask for the conflicts to be resolved in a follow-up.",
        makes_draft=True,
    ),
    "commits_elsewhere": SweepRule(
        "{detail} on {path}, not on the order's branch, and so not delivered",
        "Take them from the place that was kept, or ask for them to be made on the order's branch.",
    ),
    "stash": SweepRule(
        "changes that were put away with `git stash` ({detail})",
        "Take them from the place that was kept, or ask for what they were to be committed.",
    ),
    "older_commit": SweepRule(
        "changes that were made on another commit than the branch's newest: {detail}",
        "Take them from the place that was kept, or ask for them to be made on the order's branch.",
    ),
    "nested_repository": SweepRule(
        "{path} is a git repository inside the checkout ({detail})",
        "Ask for the files without their own `.git`, or for a proper submodule.",
    ),
    "new_gitlink": SweepRule(
        "{path} was committed as a link to another repository without an entry in .gitmodules, and was taken out again",
        "Ask for the files without their own `.git`, or for a proper submodule.",
    ),
    "too_many_files": SweepRule(
        "{detail}: too many to commit unasked",
        "Add what is generated to the repository's .gitignore, or ask the agent to commit it itself.",
    ),
    "too_large": SweepRule(
        "{path} is too large to commit unasked ({detail})",
        "Add it to the repository's .gitignore, or ask the agent to commit it itself.",
    ),
    "secret": SweepRule(
        "{path} holds what must not be published ({detail})",
        "Replace the secret where it was made, since an agent has seen it.",
    ),
    "secret_file": SweepRule(
        "{path} is where secrets are kept, by its name, and was not committed unasked",
        "Add it to the repository's .gitignore, or ask the agent to commit it itself if nothing in it is secret.",
    ),
    "leftovers_refused": SweepRule(
        "{path} was committed for the agent and refused by the remote ({detail})",
        "See what the remote's rule asks for; the file is in the place that was kept, or in this server's mirror.",
    ),
    "submodule_changes": SweepRule(
        "uncommitted changes inside the submodule {path}",
        "Take them from the place that was kept: a submodule's own repository has to get them first.",
    ),
    "refused": SweepRule(
        "{path} could not be read, or git takes no such file",
        "Take it from the place that was kept.",
    ),
    "unreadable": SweepRule(
        "what was left uncommitted, for the checkout's git folder is damaged",
        "Take it from the place that was kept.",
    ),
    "cache": SweepRule(
        "{path} is a program's own or of one machine only, and was not committed unasked",
        "Nothing, or add it to the repository's .gitignore.",
        is_work=False,
    ),
    "special_file": SweepRule(
        "{path} is a pipe, a socket or a device, and git keeps no such file",
        "Nothing.",
        is_work=False,
    ),
    "checkout": SweepRule(
        "{path} differs only in how git itself writes it on checkout",
        "Nothing; `git add --renormalize` brings such files in line with .gitattributes.",
        is_work=False,
        is_told=False,
    ),
}


@dataclass(frozen=True)
class LeftOut:
    """One thing that was not committed, or is wrong in what was: a rule of the table, where, and what more is known.

    Both texts are for people: valid text, without control characters.
    """

    rule: str
    path: str = ""
    detail: str = ""

    @property
    def words(self) -> str:
        return RULES[self.rule].says.format(path=self.path, detail=self.detail)

    @property
    def is_work(self) -> bool:
        return RULES[self.rule].is_work

    @property
    def makes_draft(self) -> bool:
        return RULES[self.rule].makes_draft

    def as_json(self) -> dict[str, str]:
        return {"rule": self.rule, "path": self.path, "detail": self.detail}


@dataclass(frozen=True)
class SweepLimits:
    """`file_bytes`: a single leftover file's most. `looked_at`: of more new files than that none is looked at."""

    file_bytes: int = FILE_LIMIT_BYTES
    new_files: int = MOST_NEW_FILES
    looked_at: int = 5000


@dataclass(frozen=True)
class Decision:
    """`tip`: where the order's branch is to be before the sweep, '' where it is. `paths`: what the sweep commits.

    `settled`: the place then is at the branch's head, with nothing half done, so that the next step may go on in it.
    """

    tip: str
    paths: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    settled: bool = True


@dataclass(frozen=True)
class Exported:
    """`has_commits`: there is a bundle. `swept`: the last commit in it is the sweep, by its own word, as `settled`.

    `branch_at`: without a bundle, where the place says the branch is; no fact, and '' where it does not say.
    """

    has_commits: bool
    settled: bool = True
    swept: bool = False
    left_out: tuple[LeftOut, ...] = ()
    branch_at: str = ""


def shown(text: str) -> str:
    """A path or a name of an agent's as text that can be stored and printed."""
    readable = os.fsencode(text).decode("utf-8", "replace")
    return "".join(one if one.isprintable() else "\ufffd" for one in readable)[:300]


def from_json(found: Any) -> tuple[LeftOut, ...]:
    """What `LeftOut.as_json` gave; entries of a later release's rules are passed over."""
    return tuple(
        LeftOut(item["rule"], str(item.get("path", "")), str(item.get("detail", "")))
        for item in found or ()
        if isinstance(item, dict) and item.get("rule") in RULES
    )


def merged(*several: Iterable[LeftOut]) -> tuple[LeftOut, ...]:
    """All of them once, bounded for each rule."""
    every = list(dict.fromkeys(item for some in several for item in some))
    counts: Counter[str] = Counter()
    kept = []
    for item in every:
        counts[item.rule] += 1
        if counts[item.rule] <= MOST_FINDINGS:
            kept.append(item)
    return tuple(kept)


def sentences(left_out: Sequence[LeftOut]) -> tuple[str, ...]:
    """The findings that are told, those of one rule together; work first."""
    groups: dict[str, list[LeftOut]] = {rule: [] for rule in RULES}
    for item in left_out:
        groups[item.rule].append(item)
    found = []
    for rule, items in groups.items():
        if not items or not RULES[rule].is_told:
            continue
        if "{path}" in RULES[rule].says and len({item.detail for item in items}) == 1 and len(items) > 1:
            names = ", ".join(item.path for item in items[:_NAMED])
            more = f" and {len(items) - _NAMED} more" if len(items) > _NAMED else ""
            found.append(LeftOut(rule, f"{names}{more}", items[0].detail).words)
        else:
            found.extend(item.words for item in items[:_NAMED])
            if len(items) > _NAMED:
                found.append(f"{len(items) - _NAMED} more like that")
    return tuple(found)


def work_in(left_out: Sequence[LeftOut]) -> str:
    """What of the findings is work, for which the place is kept, in words; '' where nothing is."""
    return in_one_line([item for item in left_out if item.is_work])


def in_one_line(left_out: Sequence[LeftOut]) -> str:
    return "; ".join(sentences(left_out))


def advice_for(left_out: Sequence[LeftOut]) -> str:
    """What to do about the findings that hold work, or all where none does; '' without any."""
    work = [item for item in left_out if item.is_work]
    return " ".join(dict.fromkeys(RULES[item.rule].advice for item in work))


# --- the decision ---

_OPERATIONS = {
    "MERGE_HEAD": "a merge",
    "CHERRY_PICK_HEAD": "a cherry-pick",
    "REVERT_HEAD": "a revert",
    "rebase-merge": "a rebase",
    "rebase-apply": "a rebase or `git am`",
    "sequencer": "a series of cherry-picks or reverts",
    "BISECT_LOG": "a bisect",
}
_NAMELESS = "a merge of what was no commit of the branch (a stash, a patch, a squash)"
_MOVES_HEAD = frozenset({"rebase-merge", "rebase-apply", "BISECT_LOG"})


def decide(survey: Survey, *, start: str, limits: SweepLimits) -> Decision:
    """What the second pass does in the place, by what the first one saw there."""
    found: list[LeftOut] = []
    tip = _tip(survey, start)
    found += _commits_elsewhere(survey, tip)
    if survey.stash:
        found.append(LeftOut("stash", "", survey.stash[:12]))
    if survey.unreadable:
        return Decision(tip, (), merged([LeftOut("unreadable")], found), settled=False)
    unmerged = [entry.path for entry in survey.entries if entry.kind == "u"]
    if survey.operations or unmerged:
        begun = ", ".join(_OPERATIONS[name] for name in survey.operations) or _NAMELESS
        names = ", ".join(shown(path) for path in unmerged[:_NAMED])
        more = f" and {len(unmerged) - _NAMED} more" if len(unmerged) > _NAMED else ""
        detail = f"{begun} (in conflict: {names}{more})" if unmerged else begun
        unfinished = LeftOut("unfinished_operation", "", detail)
        return Decision(tip, (), merged([unfinished], found), settled=False)
    paths, sorted_out = _sort(survey, limits)
    if paths and tip != survey.head:
        names = ", ".join(shown(path) for path in paths[:_NAMED])
        more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
        found.append(LeftOut("older_commit", "", f"{names}{more}"))
        paths = []
    return Decision(tip, tuple(paths), merged(found, sorted_out), settled=tip == survey.head)


def _tip(survey: Survey, start: str) -> str:
    """The order's branch: where it is, or HEAD where that goes on from it, or the one branch that alone does."""
    head_is_settled = not _MOVES_HEAD.intersection(survey.operations)
    tip = survey.head if survey.how == "ahead" and head_is_settled else survey.tip
    if tip == start and head_is_settled and survey.how != "apart" and len(survey.newest) == 1:
        return survey.newest[0]
    return tip


def _commits_elsewhere(survey: Survey, tip: str) -> Iterable[LeftOut]:
    told = {tip}
    if survey.how == "apart" and (count := survey.counts.get(survey.head, 0)):
        told.add(survey.head)
        name = f"branch {shown(survey.name)}" if survey.is_on_branch else "no branch"
        yield LeftOut("commits_elsewhere", name, _commits(count, survey.head))
    for worktree in survey.worktrees:
        count = survey.counts.get(worktree.sha, 0)
        if (
            count
            and not any(worktree.is_at(path) for path in survey.repositories)
            and worktree.sha not in told
        ):
            told.add(worktree.sha)
            name = f"branch {shown(worktree.branch)}" if worktree.branch else "no branch"
            yield LeftOut("commits_elsewhere", f"{name} of another worktree", _commits(count, worktree.sha))
    for branch in survey.branches:
        count = survey.counts.get(branch.sha, 0)
        ahead = survey.how == "ahead" and branch.sha == survey.head
        if branch.sha not in told and count and not ahead:
            told.add(branch.sha)
            yield LeftOut("commits_elsewhere", shown(branch.label), _commits(count, branch.sha))


def _commits(count: int, sha: str) -> str:
    return f"{'1 commit' if count == 1 else f'{count} commits'} ({sha[:12]})"


def _sort(survey: Survey, limits: SweepLimits) -> tuple[list[str], list[LeftOut]]:
    """What is committed of the entries, and what is not, by the rules for single files in their order."""
    present = survey.present | {entry.path for entry in survey.entries}
    taken: list[Entry] = []
    found: list[LeftOut] = []
    looked_at = survey.entries
    new = [entry for entry in looked_at if entry.is_new]
    if len(new) > limits.looked_at:  # whatever some of them are; git itself has taken the caches out already
        found.append(LeftOut("too_many_files", "", _many(new)))
        looked_at = [entry for entry in looked_at if not entry.is_new]
    caches = Counter(survey.caches)
    nested: dict[str, None] = {}
    gits = git_folders(entry.path for entry in new)
    for entry in looked_at:
        path = entry.path.rstrip("/")
        if inner := survey.nested_in(entry) or (entry.is_new and below(path, gits)):
            nested[inner] = None
        elif entry.is_new and (cache := cache_of(path, present)):
            caches[cache] += 1
        elif entry.is_new and is_secret_file(path):
            found.append(LeftOut("secret_file", shown(path)))
        elif (
            entry.is_link_without_folder
        ):  # nobody's work; what is wrong with the link itself is seen in the commits
            continue
        elif entry.path in survey.dirt and not entry.changes_mode:
            found.append(LeftOut("checkout", shown(path)))
        elif survey.sizes.get(entry.path, 0) > limits.file_bytes:
            found.append(LeftOut("too_large", shown(path), _megabytes(survey.sizes[entry.path], limits)))
        else:
            taken.append(entry)
    new = [entry for entry in taken if entry.is_new]
    if len(new) > limits.new_files:
        found.insert(0, LeftOut("too_many_files", "", _many(new)))
        taken = [entry for entry in taken if not entry.is_new]
    found += [LeftOut("nested_repository", shown(path), _inner(survey, path)) for path in nested]
    found += [LeftOut("cache", shown(path)) for path in caches]
    found += [LeftOut("special_file", shown(path)) for path in survey.special]
    return [entry.path for entry in taken], found


def _megabytes(size: int, limits: SweepLimits) -> str:
    return f"{size / 1048576:.1f} MB; the limit is {limits.file_bytes / 1048576:.0f} MB"


def too_large(path: str, size: int, limits: SweepLimits) -> LeftOut:
    return LeftOut("too_large", shown(path), _megabytes(size, limits))


def _many(new: Sequence[Entry]) -> str:
    folders = Counter(entry.path.partition("/")[0] + "/" * ("/" in entry.path) for entry in new)
    names = ", ".join(shown(name) for name, _count in folders.most_common(_NAMED))
    return f"{len(new)} new files (in {names})"


def _inner(survey: Survey, path: str) -> str:
    worktree = survey.worktree_at(path)
    if worktree is None:
        return "a repository of its own"
    name = worktree.branch or "no branch"
    count = survey.counts.get(worktree.sha, 0)
    has = f"{_commits(count, worktree.sha)} on no delivered branch" if count else "no commit of its own"
    return f"a worktree of this one, on {shown(name)}: {has}"
