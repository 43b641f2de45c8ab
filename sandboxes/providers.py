"""Settings of the sandboxes that run elsewhere: values only, so that whoever needs them imports no SDK."""

from dataclasses import dataclass, field

from sandboxes.kinds import SandboxType

MODEL_HOST = "api.anthropic.com"


@dataclass(frozen=True)
class E2BSettings:
    """The account and the template. The two addresses are for other installations than the cloud."""

    api_key: str = field(default="", repr=False)
    template: str = "work-orders"
    domain: str = ""
    api_url: str = ""
    sandbox_url: str = ""


@dataclass(frozen=True)
class DaggerSettings:
    """The image. The session is found by the SDK itself, from the variables the Dagger CLI sets."""

    image: str = ""


@dataclass(frozen=True)
class ProviderSettings:
    """`owner` tells this installation's sandboxes from others of the same account.

    `allowed_hosts` are what a sandbox may reach where the provider can enforce it; `*` is everything.
    """

    owner: str = "work-orders"
    allowed_hosts: tuple[str, ...] = (MODEL_HOST,)
    e2b: E2BSettings = field(default_factory=E2BSettings)
    dagger: DaggerSettings = field(default_factory=DaggerSettings)

    def missing_setting(self, kind: SandboxType) -> str:
        """The variable that must be set before this kind can be used; empty where it can."""
        if kind is SandboxType.E2B and not self.e2b.api_key:
            return "E2B_API_KEY"
        if kind is SandboxType.DAGGER and not self.dagger.image:
            return "WORKORDERS_DAGGER_IMAGE"
        return ""
