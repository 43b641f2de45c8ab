"""The WSGI entry point for gunicorn and other servers."""

from django.core.wsgi import get_wsgi_application

from config import env

env.point_django_at_settings()
application = get_wsgi_application()
