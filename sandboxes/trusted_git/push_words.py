"""What a git host says when it refuses a push: its sentence first, its lists last, and who can do something about it.

Pure: text in, a typed error out. Every word of it may be a hook's, and so an author's, own choice. GitHub's codes are
its documentation's; Gitea, GitLab, Azure DevOps and self-written hooks say theirs in free words.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sandboxes.errors import (
    GitError,
    GitHostFailed,
    PushContentRefused,
    PushRejected,
    RemoteAccessDenied,
)

WORDS_LIMIT = 1500
_IDS_SHOWN = 3
_LINE = 2000  # characters of a line that are looked at
_JUDGED = 500  # lines by which a refusal is judged
_NAMED = re.compile(r"\S*[/\\]\S*|\S+\.\w{1,8}(?::\d+)?(?=[\s,;:'\"`)]|\.?$)|\S+\.\w{1,8}:\d+")
_LINKS_SHOWN = 3
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|[\x00-\x08\x0b-\x1f\x7f]")
_REMOTE = re.compile(r"^remote:[ \t]?(.*)$")
_RULER = re.compile(r"[=\-—–─━_*#~+]{4,}|(?<!\S)[=\-—–─━*#~+]{2,}(?!\S)")
_LABEL = re.compile(r"^(?:(?:error|fatal|warning|err|info)\b:?\s*|[-*•>]\s+|\(\?\)\s*)+", re.IGNORECASE)
_NOISE = re.compile(
    r"^(?:(?:Resolving|Counting|Compressing|Writing|Enumerating|Receiving|Unpacking|Analyzing|Processing|Checking|"
    r"Delta|Updating|Validating) ?(?:deltas|objects|references|changes|commits|connectivity|compression)\b.*|"
    r"Total \d+ \(delta.*|Trace: [0-9a-f]+.*|locations:|Resolve the following violations before pushing again|"
    r"Learn how to resolve a blocked push\.?|Everything up-to-date|unpack ok|Done)$",
    re.IGNORECASE,
)
_ID = re.compile(r"^(?:commit:?\s*)?([0-9a-f]{7,64})[.,;]?$", re.IGNORECASE)
_LINK = re.compile(r"^https?://\S+$")
_REASON = re.compile(r"\[(?:remote )?rejected\](?: \S+ -> \S+)? \((.*)\)\s*$", re.MULTILINE)
_SAID_BY_ITSELF = re.compile(
    r"^(?:(?:pre-receive |update )?hook declined|push declined due to repository rule violations|"
    r"(?:push )?declined|protected branch hook declined|unpacker error|failed)$"
)
_BY_A_RULE = re.compile(
    r"hook declined|declined due to repository rule violations|push declined", re.IGNORECASE
)
_HTTP = re.compile(r"(?:RPC failed; HTTP|The requested URL returned error:) (\d{3})")

_AGAIN = "then retry: the agent starts again from what was pushed before."
_SAME = "then retry: the same commits are pushed."
_NO_WORD = f"The remote gives no reason: ask whoever looks after its hooks and branch rules, {_SAME}"


@dataclass(frozen=True)
class _Rule:
    """What words mean, and what a person does about it."""

    words: re.Pattern[str]
    advice: str


def _rule(pattern: str, advice: str) -> _Rule:
    return _Rule(re.compile(pattern, re.IGNORECASE), advice)


_WORKFLOWS = _rule(
    r"to create or update workflow|without .?workflows?.? (?:scope|permission)",
    "Give GH_TOKEN the right to change workflows (a classic token: the scope `workflow`; a "
    "fine-grained one: Workflows, "
    f"read and write), {_SAME} Or ask in a follow-up for the change without them.",
)
_BRANCH_RULES = (
    _rule(
        r"protected (?:branch|ref)|through (?:a pull request|the merge queue)|status checks? .{0,60}expected|"
        r"cannot (?:force-push|delete|change this locked)|force-push(?:es|ing)|locked branch|use a pull request|"
        r"TF402455|code scanning is waiting|required deployments?",
        "Let the server's account push the branches of work orders (feat-…) in the repository's branch "
        f"rules, {_SAME}",
    ),
    _rule(
        r"creations being restricted|cannot create ref|\bbranch(?:'s)? names?\b|\bref(?:erence)? names?\b|"
        r"exists; cannot create|deny updating a hidden ref|funny refname|name of the branch|invalid branch|"
        r"\bbranch(?:es)?\b[^.]{0,80}\b(?:naming|must (?:start|begin|match|be named)|"
        r"do(?:es)? not (?:match|follow|conform|start|begin)|not an allowed)",
        f"Leave the branches of work orders (feat-…) out of the rule about branch names, {_SAME}",
    ),
    _rule(
        r"verified signatures?|must be signed(?!.?off)|unsigned commits?|(?:GPG|SSH) (?:key|signature)|"
        r"(?:commit|is) not (?:verified|signed)(?!.?off)|signed commits",
        "The server signs no commits: leave the branches of work orders (feat-…) out of the rule that "
        f"asks for it, {_SAME}",
    ),
    _rule(
        r"archived|read.only (?:mode|state|mirror)|so it is read.only|"
        r"\b(?:repository|repo|project|branch|tree|trunk|codebase)\b[^.]{0,60}\b(?:read.only|locked|"
        r"frozen|disabled|closed|suspended)",
        f"The repository takes no pushes now: make it writable (unarchive or unlock it), {_SAME}",
    ),
    _rule(
        r"\b(?:mon|tues|wednes|thurs|fri|satur|sun)days?\b|weekends?\b|\bholidays?\b|"
        r"(?:code|change|release|merge|push|deploy\w*) freeze|freeze (?:is|until|period|in effect)|office hours|"
        r"(?:change|release|deploy\w*|merge) window",
        f"The remote's rule is about the time of a push: wait until it allows one, {_SAME}",
    ),
    _rule(
        r"quota|(?:repository|project|storage|namespace|account)\b[^.]{0,40}\b(?:exceed(?:s|ed)?|"
        r"over)\b[^.]{0,40}\b(?:limit|size|storage)|"
        r"billing (?:issue|problem|hold)|payment (?:required|failed|is)|subscription (?:has|is)|trial has",
        f"The repository's place on the git host is used up or its account is refused: put that right there, {_SAME}",
    ),
)
_IN_THE_WAY = re.compile(r"'refs/heads/([^']+)' exists; cannot create 'refs/heads/([^']+)'")
_ACCESS = _rule(
    r"permission to \S+ denied|permission denied|access denied|SAML|single sign.on|user permission|write access to|"
    r"(?:do(?:es)? not|don'?t|doesn'?t|no longer|not) have [^.]{0,40}(?:permissions?|access|rights?)|"
    r"not allowed to (?:push|create|update|write|force|upload)|not authori[sz]ed|need the git|"
    r"deploy key|not a member of|TF401027|you are not (?:allowed|permitted)",
    f"Give the server's account write access to the repository (and authorize its token for single sign-on), {_SAME}",
)
_HOST_TROUBLE = re.compile(
    r"internal (?:server )?error|internal api|try(?:ing)? again (?:later|in|shortly|soon)|"
    r"temporarily|temporary (?:failure|error|problem|outage)|timed out|"
    r"time-?out (?:after|while|waiting|exceeded|expired)|"
    r"(?:hook|request|gateway|connection|operation)[^.]{0,30}time-?out|"
    r"cannot connect to|could not connect|connection (?:refused|reset|closed)|"
    r"no space left|disk (?:is )?full|"
    r"disk quota|out of (?:memory|disk)|cannot lock ref|unable to lock|failed to (?:lock|update ref|"
    r"write)|failed to lock|"
    r"unable to (?:migrate|create temporary|write|append)|service unavailable|bad gateway|overloaded|"
    r"too many requests|rate limit|maintenance mode|(?:under|down for) maintenance|"
    r"unpack(?:er)? (?:error|failed)|index-pack (?:abnormal exit|failed)|"
    r"read-only file system|hook .{0,40}(?:killed|crashed|cannot (?:exec|spawn|run))|cannot (?:exec|spawn) |"
    r"error in .?(?:libcrypto|pack)",
    re.IGNORECASE,
)
_CONTENT = (
    _rule(
        r"GH009|push cannot contain secrets|secrets? (?:was |were )?(?:detected|found)|"
        r"contains? (?:\w+ ){0,3}(?:secrets?|credentials?|"
        r"private keys?|api keys?)|VS403654|secret scanning|gitleaks|trufflehog|leaked",
        "Replace the secret where it was made, since an agent has seen it; or, where it is none, allow "
        f"it by the remote's link; {_AGAIN}",
    ),
    _rule(
        r"GH001|large files?|file size|exceeds? [^.]{0,60}(?:limit|size|MB|MiB)|"
        r"maximum (?:allowed )?(?:file )?size|too (?:large|big)|"
        r"size limit|TF402462",
        f"Ask in a follow-up for the change without the large file, {_AGAIN}",
    ),
    _rule(
        r"GH008|\bLFS\b",
        f"Ask in a follow-up to commit no Git LFS pointers whose objects the remote does not have, {_AGAIN}",
    ),
    _rule(
        r"GH007|private e-?mail|e-?mail address|(?:author|committer)(?:'s)? e-?mail|\be-?mail\b",
        "Let the account of these commits show its address (on GitHub: Settings, Emails), or tell the "
        "agent which author address the "
        f"remote accepts; {_AGAIN}",
    ),
    _rule(
        r"fsck|zero-?padded|invalid author|bad (?:date|time ?zone|tree|object)|nul ?in ?commit|"
        r"missing (?:space|name|e-?mail|author)|"
        r"merge commits",
        f"Ask in a follow-up for plain commits of git's own making without what the remote names, {_AGAIN}",
    ),
    _rule(
        r"commit message|commit subject|message (?:does|must|should)|conventional|change-id|"
        r"sign(?:ed)?.?off|commitlint|subject line|"
        r"ticket|issue (?:key|number|id)|jira",
        f"Say in a follow-up, or in the repository's CLAUDE.md, how commit messages have to look, {_AGAIN}",
    ),
    _rule(
        r"\bpaths?\b|file ?names?|extensions?|prohibited|restrict|forbidden|\bfiles?\b",
        f"Ask in a follow-up for the change without the named files, or change the remote's rule; {_AGAIN}",
    ),
)

_OF_COMMITS = re.compile(
    r"\bcommit|\bauthor|whitespace|syntax|\blint|\bformat(?:ted|ting)?\b|encoding|\bbinar(?:y|ies)\b|\btests?\b|"
    r"\bmerg|\btabs?\b|line.?end|crlf|licen[cs]e|copyright|\bcontents?\b|\bcode\b|\bprograms?\b|\bblobs?\b|\bdiff|"
    r"\bchanges?\b|\bsecur|\bvulnerab|\bdependenc",
    re.IGNORECASE,
)
_UNKNOWN = (
    "If the remote's words are about these commits, say in a follow-up what to do; a Retry pushes the same commits, "
    "and where they are refused again the agent hears the words, and starts again from what was pushed before."
)


def as_another_matter(error: PushContentRefused) -> PushRejected:
    """A refusal that need not be about the commits: nobody is paid to do them again before a person has read it."""
    return PushRejected(str(error), advice=_UNKNOWN)


def names_one_of(words: str, names: Iterable[str]) -> bool:
    """Whether what the remote says holds one of these as a word of its own; of commits the start will do."""
    said = {token.strip(".") for token in re.split(r"[\s'\"`,;:()\[\]<>·]+", words)}
    shas = tuple(token for token in said if re.fullmatch(r"[0-9a-f]{7,64}", token))
    return any(name in said or (len(name) >= 40 and name.startswith(shas)) for name in names)


def push_error(output: str, stderr: str) -> GitError | None:
    """The typed reason of a push that failed, from git's standard output and error; None where the remote said nothing.

    `PushContentRefused`: the commits themselves are refused. `GitHostFailed`: time helps. `RemoteAccessDenied` and
    `PushRejected`: a person must act, and the same commits may be pushed then.
    """
    heard = _heard(stderr)
    reason = _reason(f"{output}\n{stderr}")
    status = _HTTP.search(stderr)
    if status is not None and not reason:
        return _by_status(int(status[1]), heard)
    if not reason:
        return None
    if (found := _IN_THE_WAY.search(reason)) is not None:
        return _in_the_way(found[1][:250], found[2][:250])
    words = presentable(heard if _SAID_BY_ITSELF.match(reason) else [*heard, reason]) or reason
    message = f"The remote refused the push: {words}"
    sentences = _sentences([reason, *heard])
    if (error := _for_a_person(message, sentences)) is not None:
        return error
    if (
        rule := _first(_CONTENT[:3], sentences)
    ) is not None:  # before words such as "try again", which these say too
        return PushContentRefused(message, advice=rule.advice)
    is_odd = _CONTENT[4].words.search(sentences) is not None
    if _HOST_TROUBLE.search(sentences) and not is_odd:
        return GitHostFailed(message)
    if is_odd or (_BY_A_RULE.search(reason) and presentable(heard)):
        rule = _first(_CONTENT, sentences)
        refused = PushContentRefused(message, advice=rule.advice if rule else None)
        refused.is_guess = rule is None and _OF_COMMITS.search(sentences) is None
        return refused
    is_silent = _SAID_BY_ITSELF.match(reason) and not presentable(heard)
    return PushRejected(message, advice=_NO_WORD if is_silent else None)


def _in_the_way(there: str, wanted: str) -> PushRejected:
    """Git keeps a branch as a file, and so can have none that is also the folder of another."""
    return PushRejected(
        f"The remote has a branch {there}, and beside it git can have none called {wanted}.",
        advice=f"Rename or delete {there} on the remote, {_SAME}",
    )


def _for_a_person(message: str, sentences: str) -> GitError | None:
    if _WORKFLOWS.words.search(sentences):
        return RemoteAccessDenied(message, advice=_WORKFLOWS.advice)
    if (rule := _first(_BRANCH_RULES, sentences)) is not None:
        return PushRejected(message, advice=rule.advice)
    if _ACCESS.words.search(sentences):
        return RemoteAccessDenied(message, advice=_ACCESS.advice)
    return None


def _by_status(status: int, heard: Sequence[str]) -> GitError | None:
    words = presentable(heard)
    message = f"The remote refused the push (HTTP {status}){': ' if words else ''}{words or '.'}"
    if status == 413:
        too_large = "what is to be pushed is too large for it, or for a proxy before it"
        return PushContentRefused(f"{message.rstrip('.')}: {too_large}.", advice=_CONTENT[1].advice)
    if status in {401, 403}:
        sentences = _sentences(heard)
        found = _for_a_person(message, sentences)
        return found or RemoteAccessDenied(message)
    if status in {408, 429} or status >= 500:
        return GitHostFailed(message)
    return None


def _sentences(lines: Sequence[str]) -> str:
    """What is said, without the names of files and addresses in it: those may be called anything."""
    return " ".join(
        _NAMED.sub(" ", line) for line in lines[:_JUDGED] if " " in line.strip() or line == lines[0]
    )


def _first(rules: Sequence[_Rule], text: str) -> _Rule | None:
    return next((rule for rule in rules if rule.words.search(text)), None)


def _reason(text: str) -> str:
    """What stands in parentheses after `[remote rejected]`."""
    found = _REASON.search(_ESCAPES.sub("", text))
    return found[1].strip() if found else ""


def _heard(stderr: str) -> list[str]:
    """What came from the remote, line by line, without git's prefix."""
    lines = (_REMOTE.match(_ESCAPES.sub("", line[:_LINE])) for line in re.split(r"[\r\n]", stderr))
    return [found[1] for found in lines if found is not None]


def presentable(lines: Sequence[str]) -> str:
    """The lines as one text of at most `WORDS_LIMIT` characters: sentences and links, then lists of ids."""
    said: dict[str, None] = {}
    ids: list[str] = []
    pointers: list[str] = []
    for raw in lines:
        line = _LABEL.sub("", _RULER.sub(" ", raw).strip()).strip()
        line = re.sub(r"\s+", " ", line).removeprefix("path: ")
        if not line or _NOISE.match(line):
            continue
        if (found := _ID.match(line)) is not None and any(digit.isdigit() for digit in found[1]):
            ids.append(found[1][:12])
        elif line.startswith("See http"):
            pointers.append(line)
        else:
            said[line] = None
    return _bounded([*said, *dict.fromkeys(pointers)], list(dict.fromkeys(ids)))


def _bounded(said: Sequence[str], ids: Sequence[str]) -> str:
    text, left = "", list(said)
    while left and len(text) + len(left[0]) <= WORDS_LIMIT - 500:
        text = _joined(text, left.pop(0))
    if left and not text:
        text = left.pop(0)[: WORDS_LIMIT - 500] + "…"
    if left:
        links = [line for line in left if _LINK.match(line) and len(line) <= 200]
        kept = sorted(links, key=lambda line: "unblock" not in line)[:_LINKS_SHOWN]
        kept = [link for number, link in enumerate(kept) if sum(map(len, kept[: number + 1])) <= 350]
        for link in kept:
            text = _joined(text, link)
        text += f" (and {len(left) - len(kept)} lines more)"
    if ids:
        more = f" and {len(ids) - _IDS_SHOWN} more" if len(ids) > _IDS_SHOWN else ""
        text = _joined(text, f"commits or objects: {', '.join(ids[:_IDS_SHOWN])}{more}")
    return text


def _joined(text: str, line: str) -> str:
    if not text:
        return line
    return f"{text} {line}" if text[-1] in ".:;!?," or line[0].islower() else f"{text} · {line}"
