"""Collects what a base commit says to agents: which files, links and imports followed, what was refused and why.

Law 2: read from git objects in the trusted mirror, as text; nothing of it is ever honoured as a setting. The number of
files, their bytes, the depth of imports and git's processes are bounded. `docs/guidance.md` says the same to users.
"""

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from sandboxes.trusted_git.git import TrustedGit
from sandboxes.trusted_git.tree import Absence, CommitTree, TreeFile, TreeListing
from workorders.workflow_engine.guidance import text as guidance_text

FILE_BYTES = 128 * 1024
MOST_FILES = 80
MOST_NESTED = 5000
IMPORT_DEPTH = 5
_ALL_BYTES = 512 * 1024
_MOST_REFUSED = 50
_MOST_ASKED = 200
_LONGEST_LINK = 300
_CLAUDE = (b"\t.claude/", b"\t.claude\0")
# In the order in which they are shown. Of what is named alike but for its case, the usual spelling comes first.
ROOT_FILES = (
    "CLAUDE.md",
    ".claude/CLAUDE.md",
    "AGENTS.override.md",
    "AGENTS.md",
    "GEMINI.md",
    ".github/copilot-instructions.md",
    ".cursorrules",
    ".windsurfrules",
    ".clinerules",
    ".junie/guidelines.md",
)
RULE_FOLDERS = (
    (".claude/rules", (".md",)),
    (".github/instructions", (".instructions.md",)),
    (".cursor/rules", (".mdc", ".md")),
    (".windsurf/rules", (".md",)),
    (".clinerules", (".md", ".txt")),
)
_NESTED = ("claude.md", "agents.override.md", "agents.md", "gemini.md")
_NOT_OURS = frozenset({"node_modules", "vendor", "third_party", "site-packages"})
_OF_INTEREST = (
    *(f"{before}{name}\0".encode() for name in _NESTED for before in "\t/"),
    *(f"\t{path.lower()}\0".encode() for path in ROOT_FILES if path.lower() not in _NESTED),
    *(f"\t{folder}/".encode() for folder, _ in RULE_FOLDERS),
)
_RULE_LINKS = tuple(f"\t{folder}\0".encode() for folder, _ in RULE_FOLDERS)
_ROOT_LINKS = tuple(
    f"\t{folder}\0".encode() for folder in sorted({path.split("/")[0] for path in ROOT_FILES if "/" in path})
)


@dataclass(frozen=True)
class Document:
    """One file of guidance. `names`: where it is found, the first one as people know it; `size` in bytes, in git.

    `scope`: the globs it is about, () for all of the repository; `imported_by`: the file that asked for it.
    """

    names: tuple[str, ...]
    text: str = field(repr=False)
    size: int
    scope: tuple[str, ...] = ()
    imported_by: str = ""


@dataclass(frozen=True)
class Refused:
    """A file that was asked for and does not reach the agent."""

    path: str
    asked_by: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}{f' in {self.asked_by}' if self.asked_by else ''}: {self.reason}"


@dataclass(frozen=True)
class Place:
    """A file of guidance that is there, not read yet; `scope` as of a document."""

    path: str
    scope: tuple[str, ...] = ()
    asked_by: str = ""


@dataclass(frozen=True)
class BaseGuidance:
    """All that a commit says; `scoped` is for parts of the repository, and `nested` for their folders, not read yet.

    `listed` False: it was too large to be searched. `may_have_commands` False: there is no `.claude` to look in.
    """

    general: tuple[Document, ...] = ()
    scoped: tuple[Document, ...] = ()
    nested: tuple[Place, ...] = ()
    refused: tuple[Refused, ...] = ()
    listed: bool = True
    may_have_commands: bool = True


@lru_cache(maxsize=32)
def read_guidance(git: TrustedGit, mirror: Path, base_sha: str) -> BaseGuidance:
    """A commit never changes, so the orders that start from one share the reading."""
    tree = CommitTree(git, mirror, base_sha)
    listing = tree.listing()
    reader = _Reader(tree, listing)
    general, nested = _places(listing, _behind_links(tree, listing))
    documents = reader.read_all(general)
    return BaseGuidance(
        general=tuple(document for document in documents if not document.scope),
        scoped=tuple(document for document in documents if document.scope),
        nested=tuple(nested),
        refused=tuple(reader.refused[:_MOST_REFUSED]),
        listed=listing.complete,
        may_have_commands=not listing.complete or any(part in listing.raw for part in _CLAUDE),
    )


@lru_cache(maxsize=64)
def read_places(git: TrustedGit, mirror: Path, base_sha: str, places: tuple[Place, ...]) -> BaseGuidance:
    """The documents at these places, with what they import; for several steps alike, since they name the same parts."""
    tree = CommitTree(git, mirror, base_sha)
    reader = _Reader(tree, TreeListing(b"", complete=False))
    return BaseGuidance(scoped=tuple(reader.read_all(places)), refused=tuple(reader.refused[:_MOST_REFUSED]))


@lru_cache(maxsize=64)
def read_command_file(
    git: TrustedGit, mirror: Path, base_sha: str, path: str
) -> tuple[bytes | None, BaseGuidance]:
    """A command file, links followed, None where there is none; and the files it imports.

    What a link leads to in vain is refused, not missing: the product's own command must not take its place unsaid.
    """
    tree = CommitTree(git, mirror, base_sha)
    found = tree.look_up([path])[path]
    if found is Absence.MISSING or found is Absence.FOLDER:
        return None, BaseGuidance()
    if isinstance(found, Absence):
        return None, BaseGuidance(refused=(Refused(path, "", found.value),))
    listing = tree.listing()
    reader = _Reader(tree, listing)
    content = tree.read([found], limit_bytes=2 * FILE_BYTES)[found.blob]
    if (target := reader.linked_by_text(path, content)) is not None:
        content = tree.read([target], limit_bytes=2 * FILE_BYTES)[target.blob]
    text = guidance_text.as_text(content) or ""
    body = guidance_text.front_matter(text)[1]
    reader.seen[found.blob] = path
    origin = listing.path_of(found.blob) or path
    imported = reader.follow([_Node(Document((path,), body, found.size), origin, from_root=True)])[1:]
    return content, BaseGuidance(general=tuple(imported), refused=tuple(reader.refused[:_MOST_REFUSED]))


def _places(listing: TreeListing, behind_links: Sequence[str]) -> tuple[list[Place], list[Place]]:
    """Paths worth a look with what they are about: those of the whole repository, and those of its parts."""
    listed = sorted([*listing.paths_with(*_OF_INTEREST), *behind_links])
    unlisted = not listing.complete or bool(listing.paths_with(*_ROOT_LINKS, links=True))
    alike: dict[str, list[str]] = {}
    for path in listed:
        alike.setdefault(path.lower(), []).append(path)
    general: dict[str, None] = {}
    for known in ROOT_FILES:
        found = alike.get(known.lower(), [])
        usual = [known] if known in found or unlisted else []
        general.update(dict.fromkeys([*usual, *found]))
        if known == ".claude/CLAUDE.md":
            general.update(_rules(listed, *RULE_FOLDERS[0]))
    for folder, endings in RULE_FOLDERS[1:]:
        general.update(_rules(listed, folder, endings))
    nested: list[Place] = []
    for path in sorted(listed, key=lambda path: (path.count("/"), path)):
        folder, _, name = path.rpartition("/")
        if name.lower() not in _NESTED or path in general or _NOT_OURS & set(folder.split("/")):
            continue
        about = folder.removesuffix("/.claude")
        if about and not about.startswith(".claude"):
            nested.append(Place(path, (f"{about}/**",)))
    return [Place(path) for path in general], nested[:MOST_NESTED]


def _behind_links(tree: CommitTree, listing: TreeListing) -> list[str]:
    """The rules in a folder that is a link to another one, by the names they have through the link."""
    found = []
    for link in listing.paths_with(*_RULE_LINKS, links=True):
        target = guidance_text.resolved(posixpath.dirname(link), tree.link(link))
        if target is not None:
            inside = listing.paths_with(f"\t{target}/".lower().encode("utf-8", "surrogateescape"))
            found += [link + path[len(target) :] for path in inside]
    return found


def _rules(listed: Iterable[str], folder: str, endings: Sequence[str]) -> dict[str, None]:
    inside = [path for path in listed if path.lower().startswith(f"{folder}/")]
    return dict.fromkeys(path for path in inside if path.lower().endswith(tuple(endings)))


@dataclass
class _Node:
    """A document while imports are followed. `origin`: its own path, where `document.names[0]` may be a link to it.

    `from_root`: what it imports is named from the repository's root on, as commands do.
    """

    document: Document
    origin: str
    from_root: bool = False
    depth: int = 0
    imports: list["_Node"] = field(default_factory=list)

    def flattened(self) -> list[Document]:
        return [self.document, *(document for node in self.imports for document in node.flattened())]


class _Reader:
    """Reads files of one tree, each content once. `seen`: the names of the contents it has, by blob."""

    def __init__(self, tree: CommitTree, listing: TreeListing) -> None:
        self._tree, self._listing = tree, listing
        self.seen: dict[str, str] = {}
        self.refused: list[Refused] = []
        self._texts: dict[str, str] = {}
        self._aliases: dict[str, list[Place]] = {}
        self._bytes = 0

    def read_all(self, places: Sequence[Place]) -> list[Document]:
        """The documents at these places, and right behind each what it imports."""
        nodes = [node for node in self._fetch(places) if node is not None]
        return [self._with_aliases(document) for document in self.follow(nodes)]

    def _with_aliases(self, document: Document) -> Document:
        """The same content elsewhere is about what is there as well."""
        also = self._aliases.get(document.names[0], [])
        names = dict.fromkeys([*document.names, *(place.path for place in also)])
        everywhere = not document.scope or any(not place.scope for place in also)
        scope = dict.fromkeys([*document.scope, *(glob for place in also for glob in place.scope)])
        return replace(document, names=tuple(names), scope=() if everywhere else tuple(scope))

    def follow(self, nodes: list[_Node]) -> list[Document]:
        """The documents of the nodes and all they import, level by level, so that git is asked once a level."""
        level = nodes
        for depth in range(1, IMPORT_DEPTH + 2):
            asked = [
                (node, written) for node in level for written in guidance_text.imports_in(node.document.text)
            ][:_MOST_ASKED]
            if not asked:
                break
            if depth > IMPORT_DEPTH:
                self._refuse_all(asked, f"imported over more than {IMPORT_DEPTH} files")
                break
            level = self._import(asked)
        return [document for node in nodes for document in node.flattened()]

    def _refuse_all(self, asked: Sequence[tuple[_Node, str]], reason: str) -> None:
        for node, written in asked:
            if guidance_text.looks_like_file(written):
                self.refused.append(Refused(f"@{written}", node.document.names[0], reason))

    def _import(self, asked: Sequence[tuple[_Node, str]]) -> list[_Node]:
        candidates = {(id(node), written): self._candidates(node, written) for node, written in asked}
        found = self._tree.look_up([path for paths in candidates.values() for path in paths])
        wanted: list[Place] = []
        parents: list[_Node] = []
        for node, written in asked:
            paths = candidates[id(node), written]
            files = [path for path in paths if isinstance(found[path], TreeFile)]
            if files:
                wanted.append(Place(files[0], node.document.scope, node.document.names[0]))
                parents.append(node)
            else:
                self._refuse_import(node, written, [found[path] for path in paths])
        imported = []
        for parent, child in zip(parents, self._fetch(wanted, found), strict=True):
            if child is not None:
                parent.imports.append(child)
                imported.append(child)
        return imported

    def _candidates(self, node: _Node, written: str) -> list[str]:
        """Relative to the file as it is named, then to where a link has led."""
        own = [posixpath.dirname(path) for path in (node.document.names[0], node.origin)]
        folders = dict.fromkeys(["", *own] if node.from_root else own)
        paths = [
            guidance_text.resolved(folder, spelling)
            for folder in folders
            for spelling in guidance_text.spellings(written)
        ]
        return [path for path in dict.fromkeys(paths) if path is not None]

    def _refuse_import(self, node: _Node, written: str, answers: Sequence[TreeFile | Absence]) -> None:
        asked_by = node.document.names[0]
        told = [answer for answer in answers if isinstance(answer, Absence) and answer is not Absence.MISSING]
        if not answers:
            self.refused.append(Refused(f"@{written}", asked_by, "outside the repository"))
        elif told:
            self.refused.append(Refused(f"@{written}", asked_by, told[0].value))
        elif guidance_text.looks_like_file(written):
            self.refused.append(Refused(f"@{written}", asked_by, Absence.MISSING.value))

    def _fetch(
        self, places: Sequence[Place], known: dict[str, TreeFile | Absence] | None = None
    ) -> list[_Node | None]:
        """A node for each place whose content was not had before."""
        found = known if known is not None else self._tree.look_up([place.path for place in places])
        fresh: dict[int, TreeFile] = {}
        for number, place in enumerate(places):
            file = found[place.path]
            if isinstance(file, Absence):
                if file is not Absence.MISSING and file is not Absence.FOLDER:
                    self._refuse(place, file.value)
            elif file.blob in self.seen:
                self._aliases.setdefault(self.seen[file.blob], []).append(place)
            elif len(self.seen) >= MOST_FILES or self._bytes >= _ALL_BYTES:
                self._refuse(place, "beyond the number or the size of files that are read")
            else:
                self.seen[file.blob] = place.path
                self._bytes += min(file.size, FILE_BYTES)
                fresh[number] = file
        contents = self._tree.read(fresh.values(), limit_bytes=FILE_BYTES) if fresh else {}
        targets = self._linked_by_text(
            {places[number].path: contents[fresh[number].blob] for number in fresh}
        )
        unread = [target for target in targets.values() if target.blob not in contents]
        if unread:
            contents |= self._tree.read(unread, limit_bytes=FILE_BYTES)
        return [
            self._node(place, fresh[number], contents, targets.get(place.path)) if number in fresh else None
            for number, place in enumerate(places)
        ]

    def _refuse(self, place: Place, reason: str) -> None:
        self.refused.append(Refused(place.path, place.asked_by, reason))

    def _node(
        self, place: Place, file: TreeFile, contents: Mapping[str, bytes], target: TreeFile | None
    ) -> _Node | None:
        """`target` is the file that this one only names (`_linked_by_text`)."""
        path, scope = place.path, place.scope
        if target is not None:
            if target.blob in self.seen:
                self._aliases.setdefault(self.seen[target.blob], []).append(place)
                return None
            self.seen[target.blob] = path
            file = target
        content = contents[file.blob]
        origin = self._listing.path_of(file.blob) or path
        text = guidance_text.as_text(content)
        if text is None or guidance_text.is_lfs_pointer(text):
            self._refuse(place, "not text" if text is None else "kept in Git LFS")
            return None
        if any(path.lower().startswith(f"{folder}/") for folder, _ in RULE_FOLDERS):
            values, text = guidance_text.front_matter(text)
            scope = guidance_text.scope_of(values)
        key = text.strip()
        if key in self._texts or not key:
            self._aliases.setdefault(self._texts.get(key, ""), []).append(place)
            return None
        self._texts[key] = path
        return _Node(Document((path,), key, file.size, scope, place.asked_by), origin)

    def linked_by_text(self, path: str, content: bytes) -> TreeFile | None:
        """The file that this one was a symbolic link to, before somebody committed it from where there are none."""
        return self._linked_by_text({path: content}).get(path)

    def _linked_by_text(self, contents: Mapping[str, bytes]) -> dict[str, TreeFile]:
        """The same for several, by path; git is asked once."""
        led: dict[str, str] = {}
        for path, content in contents.items():
            text = guidance_text.as_text(content) if len(content) <= _LONGEST_LINK else None
            target = guidance_text.linked_by_text(text) if text is not None else None
            if target and (resolved := guidance_text.resolved(posixpath.dirname(path), target)):
                led[path] = resolved
        found = self._tree.look_up(list(led.values())) if led else {}
        return {path: file for path, at in led.items() if isinstance(file := found[at], TreeFile)}
