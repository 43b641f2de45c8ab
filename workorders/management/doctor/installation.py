"""What `doctor` asks of how the server was installed: accounts and owners, values, static files. Changes nothing."""

import os
from pathlib import Path

from django.conf import settings
from django.db import connection

from sandboxes.files.ownership import account_name, other_owner, strangers_in, this_account
from sandboxes.findings import Finding, failed, ok, warning
from workorders.serving.web import are_collected, how_to_collect

_SHOWN = 5


def account() -> list[Finding]:
    """Whether whoever asks is the account that serves: what one account may, says little of another."""
    folder: Path = settings.WORKORDERS_DATA_DIR
    owner, me = other_owner(folder), this_account()
    if owner:
        kind = failed if os.geteuid() == 0 or not os.access(folder, os.W_OK) else warning
        hint = f"As root, `{settings.BASE_DIR}/deploy/work-orders doctor` asks as {owner}; `sudo -u {owner}` does, too."
        found = kind(
            "account", f"This is {me}, but the data folder {folder} belongs to {owner}, who serves.", hint
        )
    else:
        found = ok("account", f"{me}, to whom the data folder belongs")
    return [found, *_owners(folder)]


def _owners(folder: Path) -> list[Finding]:
    strangers = strangers_in(folder)
    if not strangers:
        return []
    names = ", ".join(str(path.relative_to(folder)) for path in strangers[:_SHOWN])
    more = f" and {len(strangers) - _SHOWN} more" if len(strangers) > _SHOWN else ""
    owner = account_name(folder.stat().st_uid)
    words = f"In the data folder, {names}{more} do not belong to {owner}, who cannot write there."
    hint = f"Give them back: chown -R {owner}: {folder}"
    return [failed("data folder owners", words, hint)]


def is_database_of_another() -> bool:
    """Opening SQLite may make files, which would belong to whoever opens it."""
    return connection.vendor == "sqlite" and bool(other_owner(settings.WORKORDERS_DATA_DIR))


def values() -> list[Finding]:
    """Values that the server accepts, and that cannot be, or may not be, what was meant."""
    odd = [
        (failed if value.is_wrong else warning)(value.name, f"{value.name} {value.message}", value.hint)
        for value in settings.WORKORDERS_ODD_VALUES
    ]
    return odd or [ok("values", "keys, secrets and names look as they should")]


def static_files() -> Finding:
    if are_collected():
        return ok("static files", "collected and compressed")
    if os.access(_nearest(Path(settings.STATIC_ROOT)), os.W_OK):
        return ok("static files", "`serve` collects them when it starts")
    return warning(
        "static files",
        f"Not collected, and {this_account()} cannot write them: pages come uncompressed.",
        how_to_collect() + ".",
    )


def _nearest(folder: Path) -> Path:
    return folder if folder.exists() else folder.parent
