"""What people type into the pages, checked by the same rules as the API's requests (`workorders.incoming`).

Forms read the database for choices at most; they write nothing.
"""

import secrets
from collections.abc import Callable
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from pydantic import ValidationError as RequestInvalid

from github_app.models import Repository
from github_app.protected_paths import parse_patterns
from github_app.references import names_a_repository, validate_branch_name
from github_app.submodule_addresses import parse_allowed
from sandboxes.kinds import SandboxType
from workorders.domain.errors import InvalidInput
from workorders.domain.states import AgentWorkOrderStatus, ShownState
from workorders.domain.workflows import AgentWorkflowType
from workorders.incoming import (
    MAX_PROMPT_LENGTH,
    MAX_REFERENCE_LENGTH,
    CreateAgentWorkOrderRequest,
    model_name,
)
from workorders.reading.pages.choices import sandbox_cards, workflow_cards
from workorders.reading.pages.repositories import repository_choices
from workorders.reading.progress import WorkOrderQuery
from workorders.repositories.pasted import parse_pasted
from workorders.services import work_orders as services
from workorders.services.work_orders import NewWorkOrder, RepositoryDefaults

MAX_SEARCH_LENGTH = 200
_REFERENCE_EXAMPLE = "https://github.com/owner/name"
_CONTROL = {"class": "form-control"}
_MONO = {
    "class": "form-control wo-mono",
    "spellcheck": "false",
    "autocapitalize": "off",
    "autocomplete": "off",
}
_SELECT = {"class": "form-select"}
_REQUEST_FIELDS = (
    "repository_url",
    "github_issue_number",
    "initial_prompt",
    "base_branch",
    "model",
    "sandbox_type",
    "workflow_type",
)


def new_key() -> str:
    """The hidden one-time key by which a second submission of the same form is known."""
    return secrets.token_urlsafe(18)


def _workflow_choices() -> list[tuple[str, str]]:
    return [(card.value, card.name) for card in workflow_cards()]


def _sandbox_choices() -> list[tuple[str, str]]:
    return [(card.value, card.name) for card in sandbox_cards()]


def _offer(form: forms.Form, name: str, choices: list[tuple[str, str]]) -> None:
    field = form.fields[name]
    if isinstance(field, forms.ChoiceField):
        field.choices = choices


def _accepted(check: Callable[[str], str], value: str) -> str:
    try:
        return check(value) if value else ""
    except ValueError as error:
        raise ValidationError(str(error)) from error


class ConnectRepositoryForm(forms.Form):
    repository_url = forms.CharField(
        label="Repository",
        help_text="Its address, or just owner/name.",
        max_length=MAX_REFERENCE_LENGTH,
        widget=forms.TextInput(attrs={**_MONO, "placeholder": _REFERENCE_EXAMPLE}),
        error_messages={"required": f"Give the repository, such as {_REFERENCE_EXAMPLE}."},
    )

    def clean(self) -> dict[str, Any]:
        if text := self.cleaned_data.get("repository_url"):
            try:
                self.cleaned_data["reference"] = services.parse_repository(text)
            except InvalidInput as error:
                self.add_error("repository_url", str(error))
        return self.cleaned_data


class RepositoryDefaultsForm(forms.Form):
    sandbox_type = forms.ChoiceField(label="Sandbox", required=False, widget=forms.Select(attrs=_SELECT))
    workflow_type = forms.ChoiceField(label="Workflow", required=False, widget=forms.Select(attrs=_SELECT))
    base_branch = forms.CharField(
        label="Base branch",
        required=False,
        help_text="Where new branches start. Empty: the repository's default branch.",
        max_length=200,
        widget=forms.TextInput(attrs=_MONO),
    )
    model = forms.CharField(
        label="Model",
        required=False,
        help_text="Empty: the server's own.",
        max_length=100,
        widget=forms.TextInput(attrs=_MONO),
    )

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        usable = [(card.value, card.name) for card in sandbox_cards() if not card.missing_setting]
        _offer(self, "sandbox_type", [("", "Git branch (the server's)"), *usable])
        _offer(self, "workflow_type", [("", "Plan + Build + Test (the server's)"), *_workflow_choices()])

    @classmethod
    def of(cls, row: Repository) -> "RepositoryDefaultsForm":
        return cls(
            initial={
                "sandbox_type": row.default_sandbox_type,
                "workflow_type": row.default_workflow_type,
                "base_branch": row.default_base_branch,
                "model": row.default_model,
            }
        )

    def clean_base_branch(self) -> str:
        return _accepted(validate_branch_name, self.cleaned_data["base_branch"])

    def clean_model(self) -> str:
        return _accepted(model_name, self.cleaned_data["model"])

    def defaults(self) -> RepositoryDefaults:
        return RepositoryDefaults(**self.cleaned_data)


class ProtectedPathsForm(forms.Form):
    protected_paths = forms.CharField(
        label="Protected paths",
        required=False,
        help_text="One pattern a line, as in .gitignore. A commit that changes such a path is not pushed before "
        "somebody approved it. Empty: none is protected.",
        max_length=20_000,
        widget=forms.Textarea(attrs={**_MONO, "rows": 4}),
    )

    def clean_protected_paths(self) -> str:
        text: str = self.cleaned_data["protected_paths"]
        try:
            parse_patterns(text)
        except ValueError as error:
            raise forms.ValidationError(str(error)) from error
        return text


class SubmodulesAllowedForm(forms.Form):
    submodules_allowed = forms.CharField(
        label="Submodules that may be private",
        required=False,
        help_text="One owner/name a line. Such a repository, when it is connected here, is fetched as a submodule with "
        "this server's credential, and every agent of this repository can read it. Others are fetched without one: "
        "only public ones come.",
        max_length=20_000,
        widget=forms.Textarea(attrs={**_MONO, "rows": 3}),
    )

    def clean_submodules_allowed(self) -> str:
        text: str = self.cleaned_data["submodules_allowed"]
        try:
            parse_allowed(text)
        except ValueError as error:
            raise forms.ValidationError(str(error)) from error
        return text


class OrderFilters(forms.Form):
    """The list's filters as they come in its address; what is not understood counts as not given.

    `status` is a state as people are told it; `pending`, which links of release 0.1 name, is `queued` now.
    """

    status = forms.ChoiceField(
        required=False,
        choices=[(item.value, item.value) for item in (*ShownState, AgentWorkOrderStatus.PENDING)],
    )
    repository = forms.IntegerField(required=False, min_value=1, max_value=2**63 - 1)
    workflow = forms.ChoiceField(
        required=False, choices=[(item.value, item.value) for item in AgentWorkflowType]
    )
    sandbox = forms.ChoiceField(required=False, choices=[(item.value, item.value) for item in SandboxType])
    q = forms.CharField(required=False, max_length=MAX_SEARCH_LENGTH)
    all = forms.BooleanField(required=False)  # also the orders that a search leaves out at first
    page = forms.IntegerField(required=False, min_value=1, max_value=10**9)

    def chosen(self) -> dict[str, Any]:
        """The filters in force, without the page."""
        self.full_clean()
        known = self.cleaned_data
        if known.get("status") == AgentWorkOrderStatus.PENDING:
            known["status"] = ShownState.QUEUED.value
        return {
            name: known[name]
            for name in ("status", "repository", "workflow", "sandbox", "q", "all")
            if known.get(name)
        }

    def page_number(self) -> int:
        return self.cleaned_data.get("page") or 1

    def state(self) -> ShownState | None:
        chosen = self.chosen().get("status")
        return ShownState(chosen) if chosen else None

    def query(self) -> WorkOrderQuery:
        chosen = self.chosen()
        return WorkOrderQuery(
            repository_pk=chosen.get("repository"),
            workflow_type=chosen.get("workflow"),
            sandbox_type=chosen.get("sandbox"),
            q=chosen.get("q", ""),
        )


class NewOrderForm(forms.Form):
    """A request for a work order; where it is valid, `request` is the value for the services.

    The repository is a connected one (`repository`) or a new reference (`repository_url`), which wins; the
    issue is typed (`github_issue_number`), which wins, or picked (`issue`).
    """

    repository = forms.ChoiceField(label="Connected repository", required=False)
    repository_url = forms.CharField(
        label="Another repository",
        required=False,
        help_text="Its address or owner/name, or the link of an issue; it takes the place of the choice above.",
        max_length=MAX_REFERENCE_LENGTH,
        widget=forms.TextInput(attrs={**_MONO, "placeholder": _REFERENCE_EXAMPLE}),
    )
    issue = forms.CharField(required=False, max_length=10)
    github_issue_number = forms.CharField(
        label="Issue number or link",
        required=False,
        max_length=MAX_REFERENCE_LENGTH,
        widget=forms.TextInput(attrs={**_CONTROL, "autocomplete": "off", "placeholder": "42"}),
    )
    initial_prompt = forms.CharField(
        label="What should the agent do?",
        required=False,
        help_text="Say what should be different afterwards. With an issue, this may stay empty.",
        max_length=MAX_PROMPT_LENGTH,
        strip=False,
        widget=forms.Textarea(attrs={**_CONTROL, "rows": 6}),
    )
    sandbox_type = forms.ChoiceField(
        label="Sandbox", choices=_sandbox_choices, error_messages={"required": "Choose a sandbox."}
    )
    workflow_type = forms.ChoiceField(
        label="Workflow", choices=_workflow_choices, error_messages={"required": "Choose a workflow."}
    )
    base_branch = forms.CharField(
        label="Base branch", required=False, max_length=200, widget=forms.TextInput(attrs=_MONO)
    )
    model = forms.CharField(
        label="Model",
        required=False,
        help_text="Empty: the repository's default, else the server's.",
        max_length=100,
        widget=forms.TextInput(attrs=_MONO),
    )
    key = forms.CharField(required=False, max_length=64, widget=forms.HiddenInput())

    request: NewWorkOrder

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.repositories = repository_choices()
        known = [(str(choice.pk), choice.name) for choice in self.repositories]
        _offer(self, "repository", [("", "Choose …"), *known])

    def clean_initial_prompt(self) -> str:
        """As typed, white space around it too: only that browsers send line ends as CRLF."""
        text: str = self.cleaned_data["initial_prompt"]
        return text.replace("\r\n", "\n")

    def clean(self) -> dict[str, Any]:
        cleaned = self.cleaned_data
        cleaned["repository_url"] = cleaned.get("repository_url") or self._chosen_url()
        link_names_one = self._link_names_an_issue(cleaned["repository_url"])
        picked = "" if link_names_one else cleaned.get("issue")  # of the repository that was chosen before
        typed = cleaned["github_issue_number"] = cleaned.get("github_issue_number") or picked or ""
        if not cleaned["repository_url"] and names_a_repository(typed):
            cleaned["repository_url"] = typed
        self._has_issue = bool(typed) or link_names_one
        if not cleaned["repository_url"] and not {"repository", "repository_url"} & set(self.errors):
            self.add_error("repository", "Choose a repository, or give another one below.")
        self._require_something_to_do()
        if not self.errors:
            self._build_request()
        return cleaned

    @property
    def repository_pk(self) -> int | None:
        """The connected repository that is chosen now, also in a form that is not valid."""
        value = str(self["repository"].value() or "")
        return next((choice.pk for choice in self.repositories if str(choice.pk) == value), None)

    def _chosen_url(self) -> str:
        return next((choice.url for choice in self.repositories if choice.pk == self.repository_pk), "")

    @staticmethod
    def _link_names_an_issue(text: str) -> bool:
        try:
            return bool(text and parse_pasted(text).issue_number)
        except InvalidInput:  # said where the request is built
            return False

    def _require_something_to_do(self) -> None:
        """Tests can be run on what is there; everything else needs words or an issue."""
        cleaned = self.cleaned_data
        told = cleaned.get("initial_prompt", "").strip() or self._has_issue
        is_known = not {"initial_prompt", "github_issue_number", "workflow_type"} & set(self.errors)
        if is_known and not told and cleaned.get("workflow_type") != AgentWorkflowType.TEST:
            self.add_error("initial_prompt", "Say what the agent should do, or choose an issue.")

    def _build_request(self) -> None:
        values = {name: self.cleaned_data.get(name, "") for name in _REQUEST_FIELDS}
        try:
            self.request = CreateAgentWorkOrderRequest.model_validate(values).to_new_work_order()
            services.require_acceptable(self.request)
        except RequestInvalid as error:
            for problem in error.errors():
                self._refuse(str(problem["loc"][0]), problem["msg"].removeprefix("Value error, "))
        except InvalidInput as error:
            self._refuse(error.field, str(error))

    def _refuse(self, field: str, message: str) -> None:
        if field == "repository_url" and not self.data.get("repository_url"):
            field = "repository"
        self.add_error(field if field in self.fields else None, message)
