"""What rules git in a place to work, as the server wants it; and what keeps its own commands there clear of the rest.

Texts only: they are written by `git_folder` on this host, and by scripts inside where a place is elsewhere.
"""

from pathlib import Path

TRAILERS_INSIDE = Path("/run/work-order-trailers")
HOOK = f"""#!/bin/sh
# Adds the work order's trailers to every commit made here.
file="${{WORKORDERS_TRAILERS_FILE:-{TRAILERS_INSIDE}}}"
[ -f "$file" ] || exit 0
message="$1"
[ -z "$(tail -c 1 -- "$message")" ] || echo >> "$message"  # `git merge -m` leaves the last line open
set --
while IFS= read -r line; do set -- "$@" --trailer "$line"; done < "$file"
# A line "---" does not end a commit's message: git, reading it, looks for trailers at its very end.
# Not "replace": git takes Work-Order for an abbreviation of Work-Order-Phase and would drop it.
exec git interpret-trailers --in-place --no-divider --if-exists addIfDifferent "$@" "$message"
"""
HOOK_NAME = "prepare-commit-msg"
# A place does not live long enough for git to tidy it up, which would be one more process for each commit.
_CONFIG = """[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = {bare}
\tlogAllRefUpdates = true
[gc]
\tauto = 0
[maintenance]
\tauto = false
"""
# For the server's own commands in a place: what a HOME, a planted history or a replaced object says does not count.
OWN_COMMANDS = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "XDG_CONFIG_HOME": "/nonexistent",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_SHALLOW_FILE": "",
}
_SPECIAL = "'(' -type p -o -type s -o -type b -o -type c ')'"
# Of the workspace: what is there that git keeps no file for, as a mark for each in $special, and as paths.
COUNT_SPECIAL = f"! -path '*/.git/*' {_SPECIAL} -printf x"
LIST_SPECIAL = f"find . -name .git -prune -o -name node_modules -prune -o {_SPECIAL} -printf '%P\\0'"
# Shell: folders high up in HOME that were closed are the owner's again. It starts no process where none is closed.
OPEN_HOME = """
open_below() {
  local name
  for name in "$1"/* "$1"/.[!.]* "$1"/..?*; do
    [ -d "$name" ] && [ ! -L "$name" ] || continue
    { [ -r "$name" ] && [ -w "$name" ] && [ -x "$name" ]; } || chmod u+rwx -- "$name" 2> /dev/null
    [ "$2" -le 1 ] || open_below "$name" $(($2 - 1))
  done
}
open_below "$HOME" 3
"""
# In front of a command inside: the same for HOME and for the whole workspace.
OPEN_UP = f"""
special="$(find . -type d ! -perm -u=rwx -exec chmod u+rwx -- {{}} ';' -o {COUNT_SPECIAL} 2> /dev/null)"
{OPEN_HOME}"""


def git_config(*, bare: bool) -> str:
    """The configuration of a git folder that agents work in."""
    return _CONFIG.format(bare=str(bare).lower())
