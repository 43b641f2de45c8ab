"""Django settings, derived from the typed environment; nothing here reads `os.environ`."""

import shlex
import sys
from contextlib import suppress
from datetime import timedelta
from typing import Any

import dj_database_url
from django.utils.csp import CSP

from config import env as environment
from config.logging import configure_logging, log_stream
from config.values import LOOPBACK_HOSTS

env = environment.current()
BASE_DIR = environment.BASE_DIR

DEBUG = env.debug
SECRET_KEY = env.secret_key or "insecure-key-for-debug-only"
ALLOWED_HOSTS = env.hosts

INSTALLED_APPS = [
    "workorders.apps.WorkOrdersConfig",  # first: its `qcluster` overrides django-q2's
    "sandboxes.apps.SandboxesConfig",
    "github_app.apps.GitHubAppConfig",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "axes",
    "django_htmx",
    "django_q",
    "ninja",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.middleware.csp.ContentSecurityPolicyMiddleware",  # outside what may fail, for error pages too
    "workorders.serving.middleware.HealthForAnyHost",  # before anything that asks for the Host header
    "workorders.serving.middleware.OpenOnLoopbackOnly",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "axes.middleware.AxesMiddleware",  # last, as it asks: shows the page of a locked account
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "workorders.views.theme.page_context",
            ],
        },
    },
]


environment.make_data_folder(env.data_dir)


WORKORDERS_SQLITE_SAFE_SINCE = (3, 51, 3)  # before, a reset of the write-ahead log can corrupt the database


def _database() -> dict[str, Any]:
    if env.database_url:
        config: dict[str, Any] = dict(dj_database_url.parse(env.database_url))
    else:
        config = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(env.data_dir / environment.SQLITE_FILE)}
    config["CONN_MAX_AGE"] = None
    if config["ENGINE"].endswith("sqlite3"):
        config["ENGINE"] = "config.sqlite"
        config["OPTIONS"] = {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": (
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA temp_store=MEMORY; "
                "PRAGMA mmap_size=134217728; PRAGMA cache_size=-16000; PRAGMA journal_size_limit=27103364;"
            ),
        }
        config["TEST"] = {"NAME": str(env.data_dir / "test.sqlite3")}
    else:
        config["CONN_HEALTH_CHECKS"] = True
        config.setdefault("OPTIONS", {}).setdefault("connect_timeout", 10)
    return config


DATABASES = {"default": _database()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",  # first: refuses while an account is locked
    "django.contrib.auth.backends.ModelBackend",
]
LOGIN_URL = LOGOUT_REDIRECT_URL = "sign-in"
LOGIN_REDIRECT_URL = "home"
SESSION_COOKIE_AGE = int(timedelta(days=7).total_seconds())

# Guessing passwords (django-axes): ten wrong ones lock the account for a while, wherever they come from. Addresses
# are not counted: behind a proxy all are one, and a client of this machine can name any in X-Forwarded-For.
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_LOCKOUT_PARAMETERS = "workorders.accounts.sign_in.counted_by"
AXES_LOCKOUT_CALLABLE = "workorders.accounts.sign_in.locked"
AXES_RESET_ON_SUCCESS = True
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False  # else whoever goes on guessing locks it for ever
AXES_SENSITIVE_PARAMETERS = ["username", "password", "csrfmiddlewaretoken"]
AXES_DISABLE_ACCESS_LOG = True
AXES_VERBOSE = False

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"  # `serve` fills it
with suppress(OSError):  # a read-only checkout was collected when it was deployed
    STATIC_ROOT.mkdir(exist_ok=True)
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = True  # tests and commands need no collectstatic
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "config.static.CollectedOrPlainStorage"},
}

DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 200

# Cookies and transport. TLS ends at a proxy in front (docs/operations.md); on loopback there is none.
LOOPBACK_ONLY = all(host in LOOPBACK_HOSTS for host in env.hosts)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = not (DEBUG or LOOPBACK_ONLY)
CSRF_COOKIE_HTTPONLY = True  # pages and /api/docs carry the token in their text
if SESSION_COOKIE_SECURE:  # no neighbouring host name can set these
    SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "__Host-sessionid", "__Host-csrftoken"
SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
SECURE_PROXY_SSL_HEADER = None if LOOPBACK_ONLY else ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_HSTS_SECONDS = 0 if LOOPBACK_ONLY else env.hsts_seconds
SECURE_HSTS_INCLUDE_SUBDOMAINS = bool(SECURE_HSTS_SECONDS) and env.hsts_include_subdomains
SECURE_HSTS_PRELOAD = bool(SECURE_HSTS_SECONDS) and env.hsts_preload
# Neighbouring host names are not this server's to decide about, so `check --deploy` need not ask for the two.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
CSRF_FAILURE_VIEW = "workorders.views.errors.csrf_failure"
X_FRAME_OPTIONS = "DENY"
SECURE_CSP = {
    "default-src": [CSP.NONE],
    "script-src": [CSP.SELF],
    "style-src": [CSP.SELF],
    "img-src": [CSP.SELF, "data:"],  # Tabler's form controls are data: images
    "font-src": [CSP.SELF],
    "connect-src": [CSP.SELF],
    "form-action": [CSP.SELF],
    "frame-ancestors": [CSP.NONE],
    "base-uri": [CSP.NONE],
}

# The queue, as docs/adr/0003 explains: tickets carry no data, so loss and redelivery are harmless.
Q_CLUSTER = {
    "name": "workorders",
    "orm": "default",
    "broker_class": "workorders.queueing.broker.TicketBroker",
    "poll": 0,  # the broker waits for its doorbell instead
    "timeout": 300,
    "retry": 360,
    "ack_failures": True,
    "max_attempts": 1,
    "save_limit": 250,
    "catch_up": False,
    "label": "Queue (django-q2)",
}

# Work Orders.
WORKORDERS_DATA_DIR = env.data_dir
WORKORDERS_AUTH = env.auth
WORKORDERS_ADMIN_PATH = env.admin_path
WORKORDERS_WORKERS = env.workers
WORKORDERS_WORKER_PROCESSES = env.worker_processes
WORKORDERS_STARTS_AT_ONCE = env.starts
WORKORDERS_LEASE_SECONDS = env.lease_seconds
WORKORDERS_DRAIN_SECONDS = env.drain_seconds
WORKORDERS_CRASH_AT = env.crash_at
WORKORDERS_AGENT_COMMAND = tuple(shlex.split(env.agent_command))
WORKORDERS_AGENT_MODEL = env.agent_model
WORKORDERS_AGENT_TIMEOUT_SECONDS = env.agent_timeout_seconds
WORKORDERS_AGENT_SILENCE_SECONDS = env.agent_silence_seconds
WORKORDERS_AGENT_ISOLATION = env.isolation
WORKORDERS_AGENT_READ_PATHS = tuple(env.read_paths)
WORKORDERS_AGENT_PROCESSES = env.agent_processes
WORKORDERS_AGENT_MEMORY_MB = env.agent_memory_mb
WORKORDERS_AGENT_BUDGET_USD = env.agent_budget_usd
WORKORDERS_AGENT_PROVIDER_VARIABLES = env.provider_variables
WORKORDERS_SANDBOX_PROVIDERS = env.providers
WORKORDERS_MODEL_BASE_URL = env.anthropic_base_url
WORKORDERS_MODEL_CREDENTIALS = {
    "api_key": env.anthropic_api_key,
    "bearer_token": env.anthropic_auth_token,
    "oauth_token": env.claude_code_oauth_token,
}
WORKORDERS_MODEL_CUSTOM_HEADERS = env.anthropic_custom_headers
WORKORDERS_MODEL_PRICES = env.model_prices
WORKORDERS_MODEL_OTHER_PROVIDER = env.other_provider
WORKORDERS_GATEWAY_ADDRESS = env.gateway_address
WORKORDERS_GATEWAY_PUBLIC_URL = env.gateway_public_url
WORKORDERS_GATEWAY_URL = (
    ""  # where this host's gateway listens; set by the cluster before it starts its workers
)
WORKORDERS_PUSH_FILE_MAX_BYTES = env.push_file_max_mb * 1024 * 1024
WORKORDERS_DISK_FLOOR_BYTES = env.disk_floor_mb * 1_000_000
WORKORDERS_LEFTOVER_FILE_MAX_BYTES = env.leftover_file_max_mb * 1024 * 1024
WORKORDERS_KEEP_HOMES_DAYS = env.keep_homes_days
WORKORDERS_KEEP_MIRRORS_DAYS = env.keep_mirrors_days
WORKORDERS_KEEP_LOGS_DAYS = env.keep_logs_days
WORKORDERS_ALLOW_LOCAL_REPOSITORIES = env.allow_local_repositories
WORKORDERS_SUBMODULES_MAX_BYTES = env.submodules_max_mb * 1_000_000
WORKORDERS_LFS_MAX_BYTES = env.lfs_max_mb * 1_000_000
WORKORDERS_LFS_HOSTS = tuple(name for name in env.lfs_hosts.split(",") if name)
WORKORDERS_GITHUB_HOST = env.github_host
WORKORDERS_GITHUB_GIT_BASE_URL = env.git_base_url
WORKORDERS_COMMANDS_DIR = BASE_DIR / ".claude" / "commands"
WORKORDERS_SECRETS = env.secret_values
WORKORDERS_ODD_VALUES = env.odd_values
WORKORDERS_DATABASE_WORDS = env.database_words
WORKORDERS_PATH = env.path
WORKORDERS_HOME = env.home
GH_TOKEN = env.gh_token
GH_HOST = env.gh_host
GH_CONFIG_DIR = env.gh_config_dir

DEFAULT_EXCEPTION_REPORTER = "config.reports.MaskedReporter"
LOGGING_CONFIG = None
configure_logging(
    log_format=env.log_format or ("console" if DEBUG else "json"),
    log_level=env.log_level,
    order_log_folder=env.data_dir / "logs" / "agent_work_orders",
    stream=log_stream(sys.argv),
)
