"""The shell script by which commits leave a sandbox, and what it says. It runs inside; its word is never a fact.

$1 branch · $2 the commit after which to begin · $3 subject of a commit for what is uncommitted, '' to leave that
alone · $4 '' to look at what was left, `take` to commit what was decided · $5 with `take`: the commit the branch is to
be at, '' where it is. Standard input with `take`: the paths to commit, each with a NUL behind it. On a server's own
host `$WORKORDERS_BORROWING` is a folder made for the script, `$WORKORDERS_GIT_FOLDER` the checkout's git folder and
`$WORKORDERS_COMMON_FOLDER` that with its refs and objects; elsewhere it finds and makes them itself.

Its first pass ends with a bundle where nothing was left, else with `LOOK_AGAIN` and a survey of what was, which
`survey` reads. Then `rules` decides, on the trusted side, and the second pass does it.
"""

from sandboxes.git_texts import COUNT_SPECIAL, LIST_SPECIAL
from sandboxes.sweep.caches import as_git_excludes, neighbours

NOTHING_TO_BUNDLE = b"Refusing to create empty bundle"
LOOK_AGAIN = 75
BRANCH_AT = "The branch is at: "  # where nothing was found to bundle
LOST = "The checkout's git folder has no HEAD any more."
MALFORMED = "Malformed: "  # what git says of the new commits' objects, where they are the reason
NEW_FILES_LISTED = 100_000  # names; far more than is ever committed unasked
TAKE = "take"
# Of the folder that borrows. Unset, excludes and attributes would be files in the agent's HOME; and an index it writes
# is whole, for a part of it in there would be gone afterwards.
BORROWING_CONFIG = """[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = false
\texcludesFile = /dev/null
\tattributesFile = /dev/null
\tsplitIndex = false
"""
BORROWED = ("refs", "packed-refs", "shallow")
_OPERATIONS = "MERGE_HEAD CHERRY_PICK_HEAD REVERT_HEAD rebase-merge rebase-apply sequencer BISECT_LOG"
_FULL_SHA = "[0-9a-f]\\{40,64\\}"  # for sed
_BUILD_FILES = " ".join(f"':(top,glob)**/{name}'" for name in sorted(neighbours()))
_QUOTED_EXCLUDES = as_git_excludes().replace("'", "'\\''")

# A git folder of our own that borrows the place's objects, refs and index, and nothing that was set in it: no
# configuration, hook, attribute, exclude, graft or replacement of an agent's has a say in what follows, however broken.
_BORROW = f"""
own="$WORKORDERS_BORROWING" git_dir="$WORKORDERS_GIT_FOLDER" common="$WORKORDERS_COMMON_FOLDER" newline='
'
if [ -z "$own" ]; then
  git_dir=.git
  if [ ! -e .git ]; then # it may have been moved aside
    for moved in .[!.]* *; do
      if [ -f "$moved/HEAD" ] && git --git-dir="$moved" cat-file -e "$2^{{commit}}" 2> /dev/null; then
        mv -- "$moved" .git
        break
      fi
    done
  fi
  if [ -f .git ]; then IFS=' ' read -r _ git_dir < .git; fi
  case "$git_dir" in /*) ;; *) git_dir="$PWD/$git_dir" ;; esac
  common="$git_dir"
  if [ -f "$git_dir/commondir" ]; then
    IFS= read -r common < "$git_dir/commondir"
    case "$common" in /*) ;; *) common="$git_dir/$common" ;; esac
  fi
  own="$(mktemp -d)" || exit 1
  trap 'rm -rf -- "$own"' EXIT
  for name in {" ".join(BORROWED)}; do ln -s -- "$common/$name" "$own/"; done
  printf '%s' '{BORROWING_CONFIG}' > "$own/config"
fi
head=
[ ! -f "$git_dir/HEAD" ] || IFS= read -r head < "$git_dir/HEAD"
[ -n "$head" ] || {{ echo "{LOST}" >&2; exit 1; }}
printf '%s\\n' "$head" > "$own/HEAD"
export GIT_DIR="$own" GIT_WORK_TREE="$PWD" GIT_OBJECT_DIRECTORY="$common/objects" GIT_INDEX_FILE="$git_dir/index"
export GIT_NO_REPLACE_OBJECTS=1 LC_ALL=C
unset GIT_COMMON_DIR GIT_CONFIG_COUNT GIT_CONFIG_PARAMETERS GIT_TEMPLATE_DIR
"""

# Nobody is at work in the place any more, so lock files in it are those of a git that was killed. In a shared git
# folder other orders' agents may be, and only the order's own branch is unlocked.
_UNLOCK = """
  for lock in "$git_dir"/*.lock "$common/$branch.lock"; do
    { [ ! -e "$lock" ] && [ ! -L "$lock" ]; } || rm -rf -- "$lock"
  done
"""

# The quick look: one `git status`, one list of branches. Where all is committed on the order's own branch, that is all.
_LOOK = f"""
    operations= held= inner= stash=
    [ -n "${{special+known}}" ] || special="$(find . {COUNT_SPECIAL} 2> /dev/null)"
    # Commits that no branch has may still hold on a tag, or be where a HEAD without a branch was left from.
    loose=
    for name in "$common"/refs/tags/*; do [ ! -e "$name" ] || loose=1; done
    # One line of it may be as long as a commit's subject, and a shell reads byte by byte.
    if [ -z "$loose" ] && [ -f "$git_dir/logs/HEAD" ] &&
      grep -q '	checkout: moving from {_FULL_SHA} to ' "$git_dir/logs/HEAD"; then loose=1; fi
    [ ! -e "$common/refs/stash" ] || stash=1
    for name in {_OPERATIONS}; do [ ! -e "$git_dir/$name" ] || operations="$operations $name"; done
    for file in "$common"/worktrees/*/gitdir; do
      [ -f "$file" ] && [ -f "${{file%gitdir}}HEAD" ] || continue
      IFS= read -r path < "$file"
      IFS= read -r at < "${{file%gitdir}}HEAD"
      [ "$path" != "$PWD/.git" ] || continue
      held="$held ${{at#ref: }} "
      # A place of the release before shares its git folder with those of other orders, which lie beside it.
      case "${{WORKORDERS_BORROWING:+local}} $path" in
        "local $PWD"/*) ;;
        "local ${{PWD%/*/*}}"/*) continue ;;
      esac
      inner="$inner$at	$path$newline"
    done
    look() {{ git status --porcelain=v2 --branch --untracked-files=normal --ignore-submodules=dirty; }}
    unreadable=
    seen="$(look)" || {{
      export GIT_INDEX_FILE="$own/fresh"
      {{ git read-tree HEAD && seen="$(look)"; }} || unreadable=1
    }}
    # Whether the order's branch is the only one, as far as that is seen without git.
    is_only=
    [ ! -f "$common/$branch" ] || is_only=1
    for name in "$common"/refs/heads/* "$common"/refs/heads/.[!.]* "$common"/refs/heads/..?*; do
      [ "$name" = "$common/$branch" ] || {{ [ ! -e "$name" ] && [ ! -L "$name" ]; }} || is_only=
    done
    if [ -f "$common/packed-refs" ]; then
      lines=0
      while [ -n "$is_only" ] && {{ IFS= read -r line || [ -n "$line" ]; }}; do
        lines=$((lines + 1))
        case "$line" in *" $branch" | "#"* | "^"* | *" refs/remotes/"* | *" refs/tags/"*) ;; *) is_only= ;; esac
        [ "$lines" -lt 100 ] || is_only=
      done < "$common/packed-refs"
    fi
    others= listed=
    [ -n "$is_only" ] ||
      listed="$(git for-each-ref --no-merged="$branch" --format='%(refname)' refs/heads)" || others=unknown
    while IFS= read -r ref; do
      case "$held" in *" $ref "*) ;; *) others="$others$ref" ;; esac
    done <<END
$listed
END
    clean=
    case "${{seen##*"$newline"}}" in
      "# "*) case "$newline$seen$newline" in *"$newline# branch.head $1$newline"*) clean=1 ;; esac ;;
    esac
"""

# The whole look: records with a NUL behind each, the first word says what it is.
_SURVEY = f"""
      say() {{ printf '%s\\0' "$@"; }}
      each() {{ xargs -0 -r printf "$1 %s\\0"; }}
      sha() {{ git rev-parse --quiet --verify "$1^{{commit}}"; }}
      [ -z "$unreadable" ] || say "unreadable 1"
      for name in $operations; do say "operation $name"; done
      [ -z "$stash" ] || say "stash $(git rev-parse --quiet --verify refs/stash)"
      tip="$(sha "$branch")" || tip="$2"
      at="$(sha HEAD)" || at=
      how=apart
      if [ -z "$at" ]; then how=unborn
      elif git merge-base --is-ancestor "$tip" "$at"; then how=ahead
      elif git merge-base --is-ancestor "$at" "$tip"; then how=behind
      fi
      say "head $at" "tip $tip" "how $how" "name ${{head#ref: refs/heads/}}"
      [ "$how" != apart ] || say "count $at $(git rev-list --count "$at" "^$tip" "^$2")"
      settled="$tip"
      [ "$how" != ahead ] || settled="$at"
      printf '%s' "$inner" | while IFS= read -r line; do
        say "inner $line"
        name="${{line%%	*}}"
        shown="$(sha "${{name#ref: }}")" && say "count $shown $(git rev-list --count "$shown" "^$settled" "^$2")"
      done
      git for-each-ref --no-merged="$settled" --format='%(objectname) %(refname)' refs/heads |
        head -n 50 > "$own/others"
      free=
      while read -r commit ref; do
        case "$held" in *" $ref "*) continue ;; esac
        [ "$ref" != "$branch" ] || continue
        say "branch $commit ${{ref#refs/heads/}}" "count $commit $(git rev-list --count "$commit" "^$settled" "^$2")"
        ! git merge-base --is-ancestor "$2" "$commit" || free="$free $commit"
      done < "$own/others"
      if [ -n "$loose" ]; then
        {{
          git for-each-ref --no-merged="$settled" --format='%(refname) tag %(refname:short)' refs/tags
          sed -n 's/^\\([0-9a-f]*\\) .*\tcheckout: moving from {_FULL_SHA} to .*/\\1 no branch/p' "$git_dir/logs/HEAD"
        }} | head -n 50 | sort -u > "$own/loose"
        while read -r ref name; do
          commit="$(sha "$ref")" && ! git merge-base --is-ancestor "$commit" "$settled" &&
            [ -z "$(git for-each-ref --contains "$commit" refs/heads)" ] || continue
          case " $free " in *" $commit "*) continue ;; esac
          say "loose $commit $name" "count $commit $(git rev-list --count "$commit" "^$settled" "^$2")"
          ! git merge-base --is-ancestor "$2" "$commit" || free="$free $commit"
        done < "$own/loose"
      fi
      [ -z "$free" ] || say "newest $(git merge-base --independent $free | tr '\\n' ' ')"
      [ -z "$unreadable" ] || exit {LOOK_AGAIN}
      mkdir -p -- "$own/info"
      printf '%s' '{_QUOTED_EXCLUDES}' > "$own/info/exclude"
      git ls-files -z --others --ignored --directory --exclude-from="$own/info/exclude" |
        git check-ignore -z -v --stdin > "$own/caches"
      git status -z --porcelain=v2 --no-renames --untracked-files=all --ignore-submodules=dirty > "$own/status"
      head -z -n {NEW_FILES_LISTED} < "$own/status"
      git ls-files -z --others --exclude-standard | head -z -n 2000 > "$own/files"
      git diff-index -z --name-only --no-renames --diff-filter=AMT --ignore-submodules=dirty HEAD > "$own/changed"
      cat "$own/files" "$own/changed" | xargs -0 -r stat --printf 'size %s %n\\0' --
      [ ! -s "$own/files" ] ||
        find . -path ./.git -prune -o -name node_modules -prune -o -name .git -printf 'nested %P\\0'
      [ ! -f .gitmodules ] || git config -z -f .gitmodules --get-regexp '^submodule\\..*\\.path$'
      git ls-files -z --cached --others --exclude-standard -- {_BUILD_FILES} | each present
      if [ -n "$special" ]; then
        {LIST_SPECIAL} | head -z -n 500 | sort -z > "$own/special"
        git check-ignore -z --stdin < "$own/special" | sort -z > "$own/ignored"
        comm -z -23 "$own/special" "$own/ignored" | each special
      fi
"""

# What checkout itself would write for a file's blob is nobody's work, whatever git thinks of it: by the attributes as
# they are now, as they were committed, as they were at the start, and by none. Each round takes what is left over.
_DIRT = """
      git diff-index -z --name-only --no-renames --diff-filter=MT --ignore-submodules=dirty HEAD > "$own/left"
      round() { # index · folder · attributes from there
        mkdir -p -- "$own/$2"
        (
          export GIT_INDEX_FILE="$own/$1"
          if [ "$3" = here ]; then git checkout-index -q -f -z --stdin --prefix="$own/$2/"
          else cd "$own/$2" && GIT_WORK_TREE="$PWD" git -c core.symlinks=false checkout-index -q -f -z --stdin; fi
        ) < "$own/left"
        xargs -0 -r sh -c 'for path; do
          if [ ! -L "$path" ] && cmp -s -- "$path" "$0/$path"; then printf "dirt %s\\0" "$path"
          else printf "%s\\0" "$path" >&3; fi
        done' "$own/$2" 3> "$own/rest" < "$own/left"
        mv -f -- "$own/rest" "$own/left"
      }
      if [ -s "$own/left" ]; then
        GIT_INDEX_FILE="$own/at-head" git read-tree HEAD
        printf '* -text -ident !filter !working-tree-encoding !eol\\n' > "$own/info/attributes"
        round at-head raw index
        rm -f -- "$own/info/attributes"
        [ ! -s "$own/left" ] || round at-head now here
        [ ! -s "$own/left" ] || round at-head committed index
        if [ -s "$own/left" ]; then
          # only what has not been committed since: else an old version was put back on purpose
          git diff-tree -r -z --name-only --no-renames "$2" HEAD | sort -z > "$own/moved"
          sort -z "$own/left" | comm -z -23 - "$own/moved" > "$own/rest"
          mv -f -- "$own/rest" "$own/left"
          GIT_INDEX_FILE="$own/at-start" git read-tree "$2"
          round at-start begun index
        fi
      fi
"""

# Into an index of its own, built from the commit: what the agent has staged is no more than what lies in the folder.
# Where git refuses a file, that costs the file alone.
_TAKE = """
    tip="$5"
    [ -n "$tip" ] || tip="$(git rev-parse --verify "$branch^{commit}")" || exit 1
    cat > "$own/paths"
    commit="$tip"
    if [ -s "$own/paths" ]; then
      export GIT_INDEX_FILE="$own/index"
      add() { git --literal-pathspecs add --all --force --ignore-errors --pathspec-from-file=- --pathspec-file-nul; }
      readable=1
      git read-tree "$tip" || {
        readable= # the trusted side says what is wrong with that commit
        tr '\\n\\0' '?\\n' < "$own/paths" > "$own/refused"
      }
      [ -z "$readable" ] || add < "$own/paths" || xargs -0 -r -n 1 sh -c '
        printf "%s\\0" "$1" |
          git --literal-pathspecs add --all --force --pathspec-from-file=- --pathspec-file-nul 2> /dev/null ||
          { [ ! -e "$1" ] && [ ! -L "$1" ]; } || # taken out by the first try
          { printf "%s" "$1" | tr "\\n" "?"; echo; } >> "$0"
      ' "$own/refused" < "$own/paths"
      [ ! -f "$own/refused" ] || sed 's/^/Refused: /' "$own/refused"
      [ -z "$readable" ] || tree="$(git write-tree)" || exit 1
      if [ -n "$readable" ] && [ "$tree" != "$(git rev-parse "$tip^{tree}")" ]; then
        text="$3$newline${newline}@TRAILER@" trailers="${WORKORDERS_TRAILERS_FILE:-/run/work-order-trailers}"
        if [ -f "$trailers" ]; then
          while IFS= read -r line; do text="$text$newline$line"; done < "$trailers"
        fi
        commit="$(printf '%s\\n' "$text" | git commit-tree "$tree" -p "$tip")" || exit 1
        echo "Swept: $commit"
      fi
      export GIT_INDEX_FILE="$git_dir/index"
    fi
    at="$(git rev-parse --quiet --verify 'HEAD^{commit}')" || at=
    git update-ref "$branch" "$commit" || exit 1
    if [ "$at" = "$tip" ] && [ ! -e "$git_dir/rebase-merge" ] && [ ! -e "$git_dir/rebase-apply" ]; then
      [ "$head" = "ref: $branch" ] || printf 'ref: %s\\n' "$branch" > "$git_dir/HEAD"
      printf 'ref: %s\\n' "$branch" > "$own/HEAD"
      [ "$commit" = "$tip" ] || git read-tree --reset HEAD || { rm -rf -- "$GIT_INDEX_FILE"; git read-tree HEAD; }
    fi
"""

SWEEP_TRAILER = "Work-Order-Sweep"
LEFTOVERS = "leftovers"
BUNDLE_SCRIPT = f"""branch="refs/heads/$1"
if [ -n "$3" ]; then{_BORROW}
  if [ -z "$4" ]; then{_UNLOCK}{_LOOK}
    if [ -z "$clean" ] || [ -n "$operations$inner$others$stash$unreadable$special$loose" ]; then
      # an output of its own: what is said on the way is not part of it
      (
{_SURVEY}{_DIRT}
        say "caches"
        cat "$own/caches"
      ) 2> /dev/null
      exit {LOOK_AGAIN}
    fi
  else
    {{{_TAKE.replace("@TRAILER@", f"{SWEEP_TRAILER}: {LEFTOVERS}")}    }} >&2
  fi
fi
git bundle create --quiet - "$branch" "^$2" || {{
  code=$?
  at="$(git rev-parse --verify --quiet "$branch^{{commit}}")"
  echo "{BRANCH_AT}$at" >&2
  whole() {{ git rev-list --objects --quiet "$@" --; }}
  # Only what is new: objects of the start are the server's, and what is wrong with them is another matter.
  if [ -n "$at" ] && ! why="$(whole "$at" "^$2" 2>&1)" && whole -n 1 "$2" > /dev/null 2>&1; then
    printf '{MALFORMED}%s\n' "$why" | head -n 1 >&2
  fi
  exit "$code"
}}
"""
