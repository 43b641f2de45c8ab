"""Wording that pages and commands share."""


def counted(number: int, noun: str) -> str:
    """`1 commit`, `2 commits`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def results_in_words(passed: int, failed: int, stale_sha: str = "", commits_since: int | None = None) -> str:
    """`12 passed, 2 failed`; `stale_sha`: the commit that was tested, where the branch holds something else by now."""
    numbers = [f"{passed:,} passed"] if passed or not failed else []
    numbers += [f"{failed:,} failed"] if failed else []
    parts = [", ".join(numbers)]
    if stale_sha:
        parts[0] += f" at {stale_sha[:7]}"
        if commits_since:
            parts.append(f"{counted(commits_since, 'commit')} ago")
        parts.append("not tested since")
    return ", ".join(parts)
