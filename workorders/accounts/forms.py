"""What people type on the account's pages: signing in, a new password, a new API key. Forms write nothing here."""

from typing import Any

from django import forms
from django.contrib.auth import authenticate
from django.contrib.auth.forms import AuthenticationForm, PasswordChangeForm
from django.core.exceptions import ValidationError
from django.core.validators import MaxLengthValidator
from django.http import HttpRequest

from workorders.domain.states import ApiKeyScope

MAX_NAME_LENGTH = 150
LIFETIMES = [("30", "30 days"), ("90", "90 days"), ("365", "1 year"), ("", "No end")]


def _styled(form: forms.BaseForm) -> None:
    for field in form.fields.values():
        kind = "form-select" if isinstance(field.widget, forms.Select) else "form-control"
        field.widget.attrs["class"] = kind


class SignInForm(AuthenticationForm):
    error_messages = {  # the base class declares it so
        "invalid_login": "The user name or the password is wrong.",
        "inactive": "This account may not sign in.",
    }

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        # Django only tells the browser; Postgres refuses what django-axes would then keep of a longer one.
        self.fields["username"].validators.append(MaxLengthValidator(MAX_NAME_LENGTH))
        _styled(self)


class NewPasswordForm(PasswordChangeForm):
    def __init__(self, *arguments: Any, request: HttpRequest, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._request = request
        _styled(self)
        rules = self.fields["new_password1"].help_text
        self.fields["new_password1"].help_text = ""
        self.rules = rules

    def clean_old_password(self) -> str:
        """Checked as at sign-in, so that wrong ones count and lock the account as they do there."""
        old: str = self.cleaned_data["old_password"]
        if authenticate(self._request, username=self.user.get_username(), password=old) is None:
            raise ValidationError(self.error_messages["password_incorrect"], code="password_incorrect")
        return old


class ApiKeyForm(forms.Form):
    name = forms.CharField(
        label="Name",
        max_length=80,
        help_text="What it is for.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    scope = forms.ChoiceField(
        label="May",
        choices=[
            (ApiKeyScope.READ.value, "Read"),
            (ApiKeyScope.WRITE.value, "Read and write"),
        ],
    )
    lifetime_days = forms.ChoiceField(label="Ends after", choices=LIFETIMES, required=False, initial="90")

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        _styled(self)

    def days(self) -> int | None:
        """None for a key without an end."""
        chosen: str = self.cleaned_data["lifetime_days"]
        return int(chosen) if chosen else None
