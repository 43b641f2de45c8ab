"""The ASGI entry point; the product's own `serve` uses WSGI, which measured faster for these pages."""

from django.core.asgi import get_asgi_application

from config import env

env.point_django_at_settings()
application = get_asgi_application()
