"""Being built."""

from django.http import HttpRequest, HttpResponse


def order_list(request: HttpRequest, **_names: object) -> HttpResponse:
    return HttpResponse(request.path)
