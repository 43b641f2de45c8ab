"""The shell scripts that remote sandboxes run inside. Their answers are the sandbox's word, never a fact.

All are for bash, and get their values as arguments. A command runs detached, its streams in files of a job folder, so
that a dropped connection costs nothing: `FOLLOW` goes on from any byte.
"""

from sandboxes.base import SETTINGS_IN_HOME
from sandboxes.sweep.bundle_script import BUNDLE_SCRIPT, LOOK_AGAIN

# In HOME: what one step left must not rule the next.
_FORGET_SETTINGS = f"rm -rf -- {' '.join(SETTINGS_IN_HOME)}"

# 1 workspace · 2 home · 3 jobs · 4 branch · 5 base branch · 6 start sha · 7 base sha · 8 pack · 9 archive of HOME
# 10 hook · 11… boundary of a shallow history
SETUP = f"""set -e
rm -rf -- "$1" "$2" "$3"
mkdir -p -- "$1" "$2" "$3"
chmod 700 "$2" "$3"
if [ -s "$9" ]; then tar -xzf "$9" -C "$2" || echo 'the kept HOME cannot be read' >&2; fi
cd "$2"
{_FORGET_SETTINGS}
cd "$1"
git init --quiet --template= --initial-branch="$4" .
[ -z "${{11}}" ] || printf '%s\\n' "${{@:11}}" > .git/shallow
git index-pack --stdin < "$8" > /dev/null
mkdir -p .git/hooks
cp -- "${{10}}" .git/hooks/prepare-commit-msg
chmod 755 .git/hooks/prepare-commit-msg
rm -f -- "$8" "$9" "${{10}}"
printf 'create refs/heads/%s %s\\ncreate refs/remotes/origin/%s %s\\n' "$4" "$6" "$5" "$7" | git update-ref --stdin
git -c checkout.workers=2 reset --quiet --hard --no-recurse-submodules
printf '%s\\n' "$6" > "${{8%/*}}/start"
stat -c %s-%.9Y .git/logs/HEAD
"""

# 1 job · 2 seconds after which it ends even if nobody listens any more. Says the process to watch.
START = """cd -- "$1" || exit 1
for old in ../*; do [ "$(basename -- "$old")" = "$(basename -- "$1")" ] || rm -rf -- "$old"; done
setsid bash -c 'trap : TERM
timeout -k 5 "$2" bash "$1/command" < "$1/stdin" > "$1/out" 2> "$1/err"
code=$?; echo "$code" > "$1/code.new"; mv -- "$1/code.new" "$1/code"' bash "$1" "$2" < /dev/null > /dev/null 2>&1 &
echo $!
"""

# 1 job · 2 its process · 3 offset · 4 seconds to stay · 5 log of HEAD. Lines out: `o <base64>` output, `m <mark>` HEAD
# moved, `e <base64>` the end of standard error, `x <code>` the end, `c` come again. After the end nothing of the
# command may live, whatever it did to escape: the machine is this order's own, so all of the account's processes go.
FOLLOW = """trap : TERM
job=$1 pid=$2 offset=$3 mark= idle=0 gone=0
end=$((SECONDS + $4))
while :; do
  over=; [ ! -e "$job/code" ] || over=1
  size=$(stat -c %s "$job/out" 2> /dev/null || echo 0)
  if [ "$size" -gt "$offset" ]; then
    count=$((size - offset)); [ "$count" -le 262144 ] || count=262144
    echo "o $(tail -c "+$((offset + 1))" "$job/out" | head -c "$count" | base64 -w 0)"
    offset=$((offset + count)) idle=0
    continue
  fi
  if [ -n "$over" ]; then
    code=$(cat "$job/code")
    echo "m $(stat -c %s-%.9Y "$5" 2> /dev/null)"
    kill -9 -1 2> /dev/null
    echo "e $(tail -c 65536 "$job/err" | base64 -w 0)"
    echo "x $code"
    exit 0
  fi
  seen=$(stat -c %s-%.9Y "$5" 2> /dev/null)
  [ "$seen" = "$mark" ] || { mark=$seen; echo "m $mark"; }
  if ! kill -0 "$pid" 2> /dev/null; then
    gone=$((gone + 1)); [ "$gone" -lt 5 ] || { [ -e "$job/code" ] || echo 137 > "$job/code"; continue; }
  fi
  [ "$SECONDS" -lt "$end" ] || { echo c; exit 0; }
  idle=$((idle + 1))
  if [ "$idle" -lt 20 ]; then sleep 0.03; else sleep 0.15; fi
done
"""

# 1 job · 2 tenths of a second to wait after asking
END = """trap : TERM
kill -TERM -1 2> /dev/null
for ((i = 0; i < $2; i++)); do [ ! -e "$1/code" ] || break; sleep 0.1; done
[ -e "$1/code" ] || echo 137 > "$1/code"
kill -9 -1 2> /dev/null
true
"""

# 1…5 as for the bundle script · 6 workspace · 7 where its output goes · 8 its input. Says the output's size.
EXPORT = f"""cd -- "$6" || exit 1
(
{BUNDLE_SCRIPT}
) < "$8" > "$7"
code=$?
case "$code" in 0|{LOOK_AGAIN}) stat -c %s "$7" ;; esac
exit "$code"
"""

# 1 home · 2 where the archive goes · 3 most bytes. Says its size, then a line for each agent session in it.
KEEP_HOME = """cd -- "$1" || exit 1
tar -czf "$2" --exclude=./.cache --exclude=./.npm . 2> /dev/null
size=$(stat -c %s "$2")
[ "$size" -le "$3" ] || { tar -czf "$2" .claude 2> /dev/null; size=$(stat -c %s "$2"); }
echo "$size"
for name in .claude/projects/*/*.jsonl; do [ ! -f "$name" ] || basename -- "$name" .jsonl; done
"""

# 1 mark · 2 start of what may not be taken yet · 3 where the step ended. All of it is taken, and the next may go on.
LEAVE = """rm -f -- "$2" && printf '%s\\n' "$3" > "$1"
"""

# 1 start of what may not be taken yet. Says it, with nothing running any more.
RECLAIM = """kill -9 -1 2> /dev/null
cat -- "$1"
"""

# 1 mark · 2 workspace · 3 home. Says where the last step ended and where HEAD is, and uses the mark up.
CLAIM = f"""cat -- "$1" && rm -f -- "$1" && git -C "$2" rev-parse HEAD && stat -c %s-%.9Y "$2/.git/logs/HEAD" &&
cd -- "$3" && {_FORGET_SETTINGS}
"""
