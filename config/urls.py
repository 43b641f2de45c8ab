"""The map of addresses: pages, JSON API, admin, health."""

from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from config.api import api_urls
from workorders.admin import ReadOnlyAdmin
from workorders.api import guard
from workorders.views import errors
from workorders.views.health import healthz, readyz

# django-q2 lets its schedules be edited, and so any function be called: a shell for whoever has admin rights.
schedules = apps.get_model("django_q.Schedule")
admin.site.unregister(schedules)
admin.site.register(schedules, ReadOnlyAdmin)

ADMIN = settings.WORKORDERS_ADMIN_PATH

urlpatterns = [
    path("", include("workorders.urls")),
    path(f"{ADMIN}login/", RedirectView.as_view(pattern_name="sign-in", query_string=True)),
    path(ADMIN, admin.site.urls),
    path("api/", api_urls),
    guard.unknown_routes,
    path("healthz", healthz, name="healthz"),
    path("readyz", readyz, name="readyz"),
]

handler400 = guard.error_page(400, errors.bad_request)
handler403 = guard.error_page(403, errors.permission_denied)
handler404 = guard.error_page(404, errors.not_found)
handler500 = guard.error_page(500, errors.server_error)
