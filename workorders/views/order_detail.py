"""Being built."""

from django.http import HttpRequest, HttpResponse


def detail(request: HttpRequest, **_names: object) -> HttpResponse:
    return HttpResponse(request.path)


def state(request: HttpRequest, **_names: object) -> HttpResponse:
    return HttpResponse(request.path)


def feed(request: HttpRequest, **_names: object) -> HttpResponse:
    return HttpResponse(request.path)


def prompt(request: HttpRequest, **_names: object) -> HttpResponse:
    return HttpResponse(request.path)


def cancel(request: HttpRequest, **_names: object) -> HttpResponse:
    return HttpResponse(request.path)


def retry(request: HttpRequest, **_names: object) -> HttpResponse:
    return HttpResponse(request.path)
