"""What somebody typed or pasted to name a repository becomes a typed value, by this server's settings."""

from django.conf import settings

from github_app.references import PastedLink, ReferenceInvalid, parse_link
from workorders.domain.errors import InvalidInput


def parse_pasted(text: str, field: str = "repository_url") -> PastedLink:
    """The repository and what a pasted link names of it. Raises `InvalidInput` for the `field` it was given in."""
    try:
        return parse_link(
            text,
            github_host=settings.WORKORDERS_GITHUB_HOST,
            allow_local=settings.WORKORDERS_ALLOW_LOCAL_REPOSITORIES,
        )
    except ReferenceInvalid as error:
        raise InvalidInput(field, str(error)) from error
