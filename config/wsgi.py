"""The WSGI entry point for gunicorn and other servers."""

from django.core.wsgi import get_wsgi_application

from config import env
from sandboxes.hardening import make_undumpable

env.point_django_at_settings()
make_undumpable()
application = get_wsgi_application()
