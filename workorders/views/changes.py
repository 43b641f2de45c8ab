"""Being built."""

from django.http import HttpRequest, HttpResponse


def changes(request: HttpRequest, **_names: object) -> HttpResponse:
    return HttpResponse(request.path)


def changed_file(request: HttpRequest, **_names: object) -> HttpResponse:
    return HttpResponse(request.path)
