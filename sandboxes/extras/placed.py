"""What stands in a checkout beside the repository's own commits: submodules, and a filter for contents of Git LFS.

The values that cross to a backend, and the scripts that run inside, where nothing they say is a fact. The filter
needs no git-lfs: what it cannot find stays a pointer, and a content becomes a pointer with its content put aside, from
where `LFS_EXPORT` brings it out.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# 1 clean|smudge · 2 the repository's contents, read-only · 3 the place's own, as git-lfs would lay them
LFS_FILTER = """#!/bin/sh
# Git LFS without git-lfs: content in, pointer out (clean), and the other way round (smudge).
what=$1 known=$2 own=$3
mkdir -p -- "$own/tmp" "$own/objects" || exit 1
file="$(mktemp "$own/tmp/XXXXXXXX")" || exit 1
trap 'rm -f -- "$file"' EXIT
cat > "$file" || exit 1
size=$(wc -c < "$file") size=$((size))
version='version https://git-lfs.github.com/spec/v1'
pointer=
if [ "$size" -le 1024 ] && [ "$(head -n 1 -- "$file" | tr -d '\\000')" = "$version" ]; then pointer=1; fi
if [ "$size" -eq 0 ] || { [ "$what" = clean ] && [ -n "$pointer" ]; }; then cat -- "$file"; exit; fi
place() { rest=${1#??}; last=${rest#??}; printf '%s/%s/%s' "${1%"$rest"}" "${rest%"$last"}" "$1"; }
if [ "$what" = clean ]; then
  oid="$(sha256sum < "$file")" || exit 1
  oid="${oid%% *}" at="$(place "${oid%% *}")"
  if [ ! -f "$known/$at" ] && [ ! -f "$own/objects/$at" ]; then
    mkdir -p -- "$own/objects/${at%/*}" && mv -f -- "$file" "$own/objects/$at" || exit 1
  fi
  printf '%s\\noid sha256:%s\\nsize %s\\n' "$version" "$oid" "$size"
  exit
fi
if [ -n "$pointer" ]; then
  oid="$(sed -n 's/^oid sha256:\\([0-9a-f]\\{64\\}\\)$/\\1/p' "$file" | head -n 1)"
  for folder in ${oid:+"$known" "$own/objects"}; do
    content="$folder/$(place "$oid")"
    [ -f "$content" ] || continue
    # Only where the way back leads to the same pointer: or git would take an untouched file for a changed one.
    size=$(wc -c < "$content") size=$((size))
    printf '%s\\noid sha256:%s\\nsize %s\\n' "$version" "$oid" "$size" | cmp -s - "$file" || continue
    cat -- "$content"
    exit
  done
fi
cat -- "$file"
"""

# 1 the git folder of the checkout it runs in; then for each submodule its name, path, commit, objects (a folder to
# borrow from, or a pack) and address. Says the path of each that could not be filled. The history ends at that commit.
PLACE_SUBMODULES = """top=$1; shift
fill() {
  git_dir="$top/modules/$1"
  [ ! -L "$2" ] && mkdir -p -- "$2" && [ -z "$(ls -A -- "$2")" ] || return 1
  rm -rf -- "$git_dir" && mkdir -p -- "$git_dir/objects/info" "$git_dir/refs/heads" || return 1
  printf '%s\\n' "$3" > "$git_dir/HEAD" && printf '%s\\n' "$3" > "$git_dir/shallow" &&
  printf '[core]\\n\\trepositoryformatversion = 0\\n\\tfilemode = true\\n\\tbare = false\\n' > "$git_dir/config" &&
  if [ -d "$4" ]; then printf '%s\\n' "$4" > "$git_dir/objects/info/alternates"
  else git --git-dir="$git_dir" index-pack --stdin < "$4" > /dev/null && rm -f -- "$4"; fi &&
  printf 'gitdir: %s\\n' "$(realpath --relative-to="$2" -- "$git_dir")" > "$2/.git" &&
  git --git-dir="$git_dir" config core.worktree "$(realpath --relative-to="$git_dir" -- "$2")" &&
  git --git-dir="$git_dir" config remote.origin.url "$5" &&
  git --git-dir="$git_dir" config remote.origin.fetch '+refs/heads/*:refs/remotes/origin/*' &&
  git -C "$2" -c checkout.workers=2 reset --quiet --hard --no-recurse-submodules
}
while [ $# -gt 0 ]; do
  if ! fill "$1" "$2" "$3" "$4" "$5"; then
    find "./$2" -mindepth 1 -delete; rm -rf -- "$top/modules/$1"
    printf '%s\\n' "$2"
  fi
  shift 5
done
"""

# Paths of submodules. Says those in which something is not committed, which no bundle can bring out.
CHANGED_SUBMODULES = """for path in "$@"; do
  [ -z "$(git -C "$path" status --porcelain 2> /dev/null | head -n 1)" ] || printf '%s\\n' "$path"
done
"""

# 1 the place's own contents, as the filter lays them · 2 the repository's, which need not come again. A tar archive on
# standard output, from there and from where git-lfs itself puts them; names are looked at, for an agent chose them.
LFS_EXPORT = """known=$2
common="$(git rev-parse --path-format=absolute --git-common-dir)/lfs"
hex='[0-9a-f][0-9a-f]' name='[0-9a-f]'
for _ in 1 2 3 4 5 6; do name="$name$name"; done
for folder in "$1/objects" "$common/objects"; do
  ( cd -- "$folder" 2> /dev/null && find . -mindepth 3 -maxdepth 3 -type f -path "./$hex/$hex/*" -name "$name" ) |
  while IFS= read -r file; do
    [ -n "$known" ] && [ -f "$known/${file#./}" ] || printf '%s/%s\\n' "$folder" "${file#./}"
  done
done | sort -u | head -n 5000 | tar -cf - --format=gnu -P --hard-dereference --no-recursion -T -
"""


@dataclass(frozen=True)
class PlacedSubmodule:
    """A submodule to fill: `objects` is a trusted mirror's folder of objects, which has the commit `sha`."""

    name: str
    path: str
    sha: str
    objects: Path
    url: str


@dataclass(frozen=True)
class Extras:
    """`lfs_objects`: the folder of contents that the repository's LFS keeps; None where it uses none.

    `lfs_oids` are those of the contents in it that this checkout has.
    """

    submodules: tuple[PlacedSubmodule, ...] = ()
    lfs_objects: Path | None = None
    lfs_oids: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.submodules) or self.lfs_objects is not None

    @property
    def borrowed(self) -> tuple[Path, ...]:
        """Folders of this host that the checkout reads from, as long as it stands."""
        found = [one.objects for one in self.submodules]
        return tuple(dict.fromkeys([*found, *([self.lfs_objects] if self.lfs_objects else [])]))


def git_settings(extras: Extras, *, lfs_filter: str, own_lfs: str) -> str:
    """A configuration for the whole system, as the checkout's commands see it; `lfs_filter` is the script's path."""
    lines = []
    if extras.lfs_objects is not None:
        lines.append('[filter "lfs"]')
        for what in ("clean", "smudge"):
            words = shlex.join(["sh", lfs_filter, what, str(extras.lfs_objects), own_lfs])
            lines.append(f"\t{what} = {_quoted(words)}")
        lines.append("\trequired = true")
    for one in extras.submodules:
        lines += [f"[submodule {_quoted(one.name)}]", "\tactive = true", f"\turl = {_quoted(one.url)}"]
    return "".join(f"{line}\n" for line in lines)


def submodule_arguments(submodules: Sequence[PlacedSubmodule]) -> list[str]:
    """For `PLACE_SUBMODULES`."""
    return [value for one in submodules for value in (one.name, one.path, one.sha, str(one.objects), one.url)]


def changed_submodules(paths: Sequence[str], said: str) -> tuple[str, ...]:
    """Those of the paths inside which something is uncommitted, by what `CHANGED_SUBMODULES` said."""
    return tuple(path for path in said.splitlines() if path in paths)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
