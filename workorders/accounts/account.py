"""One person's account: password and API keys. Open to whoever is signed in, also where nobody has to."""

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.forms import PasswordChangeForm
from django.contrib.auth.models import User
from django.contrib.auth.views import PasswordChangeView
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse, reverse_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from workorders.accounts.forms import ApiKeyForm, NewPasswordForm
from workorders.domain.errors import InvalidInput
from workorders.services import api_keys
from workorders.services.api_keys import ApiKeyNotFound, NewApiKey

_NEW_KEY_COOKIE = "new_api_key"
_NEW_KEY_SECONDS = 60


class AccountRequest(HttpRequest):
    """A request that `login_required` let through, for annotations."""

    user: User


@require_safe
@never_cache
@login_required
def account(request: AccountRequest) -> HttpResponse:
    """Also shows a key that was just made, this once."""
    secret = request.get_signed_cookie(_NEW_KEY_COOKIE, max_age=_NEW_KEY_SECONDS, default=None) or ""
    answer = _page(request, ApiKeyForm(), secret=secret)
    if _NEW_KEY_COOKIE in request.COOKIES:
        answer.delete_cookie(_NEW_KEY_COOKIE, path=reverse("account"), samesite="Strict")
    return answer


@require_POST
@never_cache
@login_required
def create_key(request: AccountRequest) -> HttpResponse:
    """Leads to the page that shows the key, so that loading that again makes no other.

    The browser that is about to show the key carries it there, for a minute; the server stores it nowhere.
    """
    form = ApiKeyForm(request.POST)
    made = None
    if form.is_valid():
        try:
            made = api_keys.create_api_key(
                user=request.user,
                name=form.cleaned_data["name"],
                scope=form.cleaned_data["scope"],
                lifetime_days=form.days(),
                by=request.user.get_username(),
            )
        except InvalidInput as error:
            form.add_error(error.field, str(error))
    if made is None:
        return _page(request, form, status=422)
    answer = redirect("account")
    answer.set_signed_cookie(
        _NEW_KEY_COOKIE,
        made.secret,
        max_age=_NEW_KEY_SECONDS,
        path=reverse("account"),
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Strict",
    )
    return answer


@require_POST
@login_required
def revoke_key(request: AccountRequest, pk: int) -> HttpResponseBase:
    """Other people's keys look missing."""
    try:
        row = api_keys.revoke_api_key(pk=pk, user_pk=request.user.pk, by=request.user.get_username())
    except ApiKeyNotFound as error:
        raise Http404(str(error)) from error
    messages.success(request, f"The key {row.prefix}… is revoked.")
    return redirect("account")


class ChangePassword(PasswordChangeView):
    """Ends the person's other sessions; API keys stay."""

    http_method_names = ["get", "head", "post"]  # declared so by Django
    template_name = "workorders/password.html"
    form_class = NewPasswordForm
    success_url = reverse_lazy("account")

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "request": self.request}

    def form_valid(self, form: PasswordChangeForm) -> HttpResponse:
        messages.success(self.request, "The password is changed; other sessions are signed out.")
        return super().form_valid(form)

    def form_invalid(self, form: PasswordChangeForm) -> HttpResponse:
        return self.render_to_response(self.get_context_data(form=form), status=422)


change_password = ChangePassword.as_view()


def _page(request: AccountRequest, form: ApiKeyForm, *, secret: str = "", status: int = 200) -> HttpResponse:
    keys = api_keys.keys_of(request.user)
    made = [NewApiKey(key, secret) for key in keys if secret.startswith(f"{key.prefix}_")]
    context = {"nav": "account", "form": form, "made": made[0] if made else None, "keys": keys}
    return render(request, "workorders/account.html", context, status=status)
