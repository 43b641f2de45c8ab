"""Signing in and out with Django's users; django-axes counts wrong passwords and locks the account for a while."""

from typing import Any

from django.conf import settings
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView, LogoutView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from workorders.accounts.forms import SignInForm

_TEMPLATE = "workorders/sign_in.html"


class SignIn(LoginView):
    """`next` is followed to this site's own addresses only (Django checks it)."""

    http_method_names = ["get", "head", "post"]  # declared so by Django
    template_name = _TEMPLATE
    authentication_form = SignInForm

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        return self.render_to_response(self.get_context_data(form=form), status=422)

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        return super().get_context_data(no_account=not User.objects.exists(), **context)


sign_in = SignIn.as_view()
sign_out = LogoutView.as_view()


def counted_by(_request: HttpRequest, _credentials: object) -> list[str]:
    """What wrong passwords are counted by, for django-axes: the account they were tried on."""
    return ["username"]


def locked(request: HttpRequest, _response: HttpResponse, _credentials: object) -> HttpResponse:
    """The page of a locked account: the same whether there is such an account or not."""
    seconds = int(settings.AXES_COOLOFF_TIME.total_seconds())
    context = {"form": SignInForm(request), "locked_minutes": seconds // 60, "next": ""}
    answer = render(request, _TEMPLATE, context, status=429)
    answer["Retry-After"] = str(seconds)
    return answer
