"""What an agent gets to reach the model with: one function decides for every sandbox type. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from sandboxes.kinds import SandboxType

REMOTE = frozenset({SandboxType.E2B, SandboxType.DAGGER})
"""Types whose agents do not run on this machine's network, so that its loopback is not theirs."""

_CHOICES = ("ANTHROPIC_MODEL", "ANTHROPIC_SMALL_FAST_MODEL", "ANTHROPIC_BETAS")
_CHOICE_PREFIXES = ("ANTHROPIC_DEFAULT_",)


class CredentialKind(StrEnum):
    """Which credential a run's agent held; empty: none at all."""

    NONE = ""
    GATEWAY_TOKEN = "gateway_token"  # noqa: S105  # nosec B105  # the word, not a secret
    PROVIDER_KEY = "provider_key"


@dataclass(frozen=True)
class AgentCredential:
    """Variables of the agent's process. `secrets` are kept apart so that no sandbox logs or stores them."""

    kind: CredentialKind
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class ModelAccess:
    """How agents reach the model from this host.

    `loopback_url` is the gateway's address here ('' where none runs), `public_url` how a remote sandbox finds it,
    `provider_variables` the real thing, for remote sandboxes without a public gateway only.
    """

    loopback_url: str = ""
    public_url: str = ""
    provider_variables: Mapping[str, str] = field(default_factory=dict, repr=False)

    def kind_for(self, sandbox_type: SandboxType) -> CredentialKind:
        """Local agents never hold the provider's key, also where no gateway runs."""
        if self.url_for(sandbox_type):
            return CredentialKind.GATEWAY_TOKEN
        if sandbox_type in REMOTE and self.provider_variables:
            return CredentialKind.PROVIDER_KEY
        return CredentialKind.NONE

    def url_for(self, sandbox_type: SandboxType) -> str:
        return self.public_url if sandbox_type in REMOTE else self.loopback_url

    def credential_for(self, sandbox_type: SandboxType, step_token: str) -> AgentCredential:
        """`step_token` is good for this step only; it counts where the kind is `GATEWAY_TOKEN`."""
        kind = self.kind_for(sandbox_type)
        match kind:
            case CredentialKind.GATEWAY_TOKEN:
                environment = {**self._choices(), "ANTHROPIC_BASE_URL": self.url_for(sandbox_type)}
                return AgentCredential(kind, environment, {"ANTHROPIC_API_KEY": step_token})
            case CredentialKind.PROVIDER_KEY:
                return AgentCredential(kind, secrets=self.provider_variables)
            case _:
                return AgentCredential(kind, self._choices())

    def _choices(self) -> dict[str, str]:
        """Which models to use is a choice, and no secret."""
        return {
            name: value
            for name, value in self.provider_variables.items()
            if name in _CHOICES or name.startswith(_CHOICE_PREFIXES)
        }
