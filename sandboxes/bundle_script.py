"""The shell script by which commits leave a sandbox, and what it says. It runs inside; its word is never a fact.

$1 branch · $2 the commit after which to begin · $3 message for what is uncommitted, '' to leave that alone
"""

NOTHING_TO_BUNDLE = b"Refusing to create empty bundle"
_LEFT_OUT = "Left out of the bundle: "
_BRANCH_AT = "The branch is at: "
_UNTRACKED_LIMIT = 500  # more than that is a program's own files, not somebody's work
# Everything but the bundle goes to standard error. Leftovers are committed, and commits made on another branch
# or on none are brought to the order's, where they follow from it; what of that fails is said, and the rest goes on.
# Nobody is at work in the place any more, so lock files in it are those of a git that was killed. In a shared git
# folder other orders' agents may be, and only the order's own branch is unlocked.
BUNDLE_SCRIPT = f"""
branch="refs/heads/$1"
newline='
'
if [ -n "$3" ]; then
  left= git_dir=.git common=.git
  if [ -f .git ]; then IFS=' ' read -r _ git_dir < .git; common="$git_dir/../.."; fi
  for lock in "$git_dir"/*.lock "$common/$branch.lock"; do
    {{ [ ! -e "$lock" ] && [ ! -L "$lock" ]; }} || rm -rf -- "$lock"
  done
  if seen="$(git status --porcelain=v2 --branch --untracked-files=normal --ignore-submodules=dirty)"; then
    case "${{seen##*"$newline"}}" in
      "# "*) ;;
      *)
        new="$(git ls-files --others --exclude-standard | wc -l)" which=--all
        [ "$new" -le {_UNTRACKED_LIMIT} ] || {{ which=--update; left="$new new files, too many to commit unasked"; }}
        git add --ignore-errors "$which" || left="what git add refused"
        git diff --cached --quiet || git commit --quiet --no-verify --message "$3" || left="what git commit refused"
        ;;
    esac
    case "$newline$seen$newline" in
      *"$newline# branch.head $1$newline"*) ;;
      *)
        if git merge-base --is-ancestor "$branch" HEAD; then
          git update-ref "$branch" HEAD
        else
          git merge-base --is-ancestor HEAD "$branch"
        fi || left="commits that do not follow from $1"
        ;;
    esac
  else
    left="what git status cannot see"
  fi
  [ -z "$left" ] || echo "{_LEFT_OUT}$left"
fi >&2
git bundle create --quiet - "$branch" "^$2" || {{
  code=$?
  echo "{_BRANCH_AT}$(git rev-parse --verify --quiet "$branch^{{commit}}")" >&2
  exit "$code"
}}
"""


def branch_in(stderr: str) -> str:
    """Where the bundle's script says the branch is, when it found nothing to bundle; '' where it does not say."""
    return stderr.rpartition(_BRANCH_AT)[2].partition("\n")[0].strip() if _BRANCH_AT in stderr else ""


def left_out_in(stderr: str) -> str:
    """What the bundle's script says it could not bring into git, with git's own words before it; else ''."""
    before, marker, after = stderr.rpartition(_LEFT_OUT)
    if not marker:
        return ""
    what, said = after.partition("\n")[0], before.strip()[-300:]
    return f"{what} ({said})" if said else what
