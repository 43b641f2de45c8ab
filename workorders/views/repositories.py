"""Being built."""

from django.http import HttpRequest, HttpResponse


def repository_list(request: HttpRequest, **_names: object) -> HttpResponse:
    return HttpResponse(request.path)


def repository(request: HttpRequest, **_names: object) -> HttpResponse:
    return HttpResponse(request.path)


def state(request: HttpRequest, **_names: object) -> HttpResponse:
    return HttpResponse(request.path)


def verify(request: HttpRequest, **_names: object) -> HttpResponse:
    return HttpResponse(request.path)
