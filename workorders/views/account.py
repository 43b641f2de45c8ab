"""One person's account: password and API keys. Open to whoever is signed in, also where nobody has to."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.forms import PasswordChangeForm
from django.contrib.auth.models import User
from django.contrib.auth.views import PasswordChangeView
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from workorders import api_keys
from workorders.account_forms import ApiKeyForm, NewPasswordForm
from workorders.api_keys import ApiKeyNotFound, NewApiKey
from workorders.errors import InvalidInput


class AccountRequest(HttpRequest):
    """A request that `login_required` let through, for annotations."""

    user: User


@require_safe
@never_cache
@login_required
def account(request: AccountRequest) -> HttpResponse:
    return _page(request, ApiKeyForm())


@require_POST
@never_cache
@login_required
def create_key(request: AccountRequest) -> HttpResponse:
    """Answers with the page that shows the key, this once: it is stored nowhere."""
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
    return _page(request, ApiKeyForm(), made=made)


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

    def form_valid(self, form: PasswordChangeForm) -> HttpResponse:
        messages.success(self.request, "The password is changed; other sessions are signed out.")
        return super().form_valid(form)

    def form_invalid(self, form: PasswordChangeForm) -> HttpResponse:
        return self.render_to_response(self.get_context_data(form=form), status=422)


change_password = ChangePassword.as_view()


def _page(
    request: AccountRequest, form: ApiKeyForm, *, made: NewApiKey | None = None, status: int = 200
) -> HttpResponse:
    context = {
        "nav": "account",
        "form": form,
        "made": made,
        "keys": api_keys.keys_of(request.user),
    }
    return render(request, "workorders/account.html", context, status=status)
