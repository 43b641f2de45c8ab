"""Being built."""

from django.http import HttpRequest, HttpResponse


def new_order(request: HttpRequest, **_names: object) -> HttpResponse:
    return HttpResponse(request.path)
