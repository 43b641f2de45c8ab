"""The WSGI entry point for gunicorn and other servers."""

from django.core.wsgi import get_wsgi_application

from config import env
from config.request_body import whole_body
from sandboxes.processes.hardening import make_undumpable
from workorders.serving import lanes

env.point_django_at_settings()
make_undumpable()
application = lanes.in_its_lane(whole_body(get_wsgi_application()))
