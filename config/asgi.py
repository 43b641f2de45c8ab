"""The ASGI entry point; the product's own `serve` uses WSGI, which measured faster for these pages."""

from django.core.asgi import get_asgi_application

from config import env
from sandboxes.processes.hardening import make_undumpable

env.point_django_at_settings()
make_undumpable()
application = get_asgi_application()
