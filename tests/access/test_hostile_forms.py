"""No form, address or header of a page gives a 5xx: what people, scanners and attackers send by hand."""

from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.factories import make_order, make_repository
from workorders.services import api_keys

pytestmark = pytest.mark.django_db
FORM = "application/x-www-form-urlencoded"
PART = "multipart/form-data; boundary=x"

# Each as it stands in a form's body.
VALUES = {
    "empty": "",
    "blank": "%20%09%0d%0a",
    "NUL": "a%00b",
    "invalid UTF-8": "%ff%fe",
    "lone surrogate": "%ED%A0%80",
    "cut off": "%E2%82",
    "not percent": "%zz%",
    "control": "%1b%5b31m%07%08%7f",
    "bidi": quote("a\u202e\u2066b\u200b"),
    "beyond the BMP": quote("😀" * 50),
    "option": "--upload-pack=id",
    "HTML": quote('"><script>alert(1)</script>'),
    "template": quote("{{ settings.SECRET_KEY }}{% debug %}"),
    "traversal": quote("../../etc/passwd"),
    "huge integer": "9" * 5000,
    "big integer": str(2**63),
    "negative": "-1",
    "float": "1e999",
    "NaN": "NaN",
    "digits of elsewhere": quote("٣²"),
    "long": "x" * 200_000,
    "long line ends": "%0d%0a" * 60_000,
}
FIELDS = {
    "/work-orders/new/": (
        "repository repository_url issue github_issue_number initial_prompt sandbox_type workflow_type "
        "base_branch model key action"
    ),
    "/repositories/": "repository_url",
    "/repositories/{pk}/": "sandbox_type workflow_type base_branch model",
    "/work-orders/{order}/prompt/": "prompt_text",
    "/theme/": "theme next",
    "/account/login/": "username password next",
    "/account/password/": "old_password new_password1 new_password2",
    "/account/keys/": "name scope lifetime_days",
}
COMPLETE = {
    "/work-orders/new/": {
        "repository_url": "octo/spoon",
        "sandbox_type": "git_branch",
        "workflow_type": "agent_workflow_plan",
        "initial_prompt": "Do it",
    },
    "/account/login/": {"username": "ann", "password": "x"},
    "/account/keys/": {"name": "ci", "scope": "read", "lifetime_days": "30"},
}


class Visitor:
    """Somebody who is signed in, and the rows the addresses name."""

    def __init__(self) -> None:
        user = User.objects.create_superuser("ann", password="correct horse battery staple")
        self.client = Client(raise_request_exception=False)
        self.client.force_login(user)
        self.order, self.pk = str(make_order()), make_repository().pk
        self.key = api_keys.create_api_key(
            user=user, name="x", scope="read", lifetime_days=1, by="test"
        ).row.pk

    def at(self, address: str) -> str:
        return address.format(order=self.order, pk=self.pk, key=self.key)

    def post(self, address: str, body: str | bytes, kind: str = FORM, **extra: Any) -> int:
        raw = body.encode() if isinstance(body, str) else body
        answer = self.client.generic("POST", self.at(address), raw, content_type=kind, **extra)
        return int(answer.status_code)

    def get(self, address: str, headers: dict[str, str] | None = None, **extra: Any) -> int:
        return int(self.client.get(self.at(address), headers=headers, **extra).status_code)


@pytest.fixture
def visitor(settings: Any) -> Visitor:
    settings.WORKORDERS_AUTH = "required"
    settings.AXES_FAILURE_LIMIT = 1_000_000
    return Visitor()


@pytest.mark.parametrize("address", FIELDS)
def test_odd_values_in_every_field(visitor: Visitor, address: str) -> None:
    base = COMPLETE.get(address, {})
    failed = []
    for field in FIELDS[address].split():
        for name, value in VALUES.items():
            others = "".join(f"&{key}={quote(text)}" for key, text in base.items() if key != field)
            status = visitor.post(address, f"{field}={value}{others}")
            if status not in {200, 302, 422}:
                failed.append(f"{field} = {name}: {status}")
    assert not failed, "\n".join(failed)


BODIES: list[tuple[str, bytes, str]] = [
    ("nothing", b"", FORM),
    ("JSON", b'{"repository_url": "o/r"}', "application/json"),
    ("plain", b"repository_url=o/r", "text/plain"),
    ("no type", b"repository_url=o/r", ""),
    ("rubbish type", b"a=b", "\x01;;;="),
    ("unknown charset", b"repository_url=o/r", f"{FORM}; charset=martian"),
    ("UTF-16", "repository_url=o/r".encode("utf-16"), f"{FORM}; charset=utf-16"),
    ("UTF-7", b"repository_url=+AD-", f"{FORM}; charset=utf-7"),
    ("odd codec", b"repository_url=o/r", f"{FORM}; charset=zlib_codec"),
    ("no boundary", b"--x\r\n\r\n", "multipart/form-data"),
    ("bad boundary", b"--x\r\n\r\n", "multipart/form-data; boundary=\xff"),
    ("long boundary", b"--x\r\n\r\n", "multipart/form-data; boundary=" + "x" * 5000),
    ("empty parts", b"--x\r\n\r\n--x--", PART),
    ("cut off", b'--x\r\nContent-Disposition: form-data; name="repository_url"\r\n\r\no/r', PART),
    ("odd headers", b"--x\r\nContent-Disposition: \x00\xff\r\n:\r\n\r\nx\r\n--x--\r\n", PART),
    (
        "a file for a text",
        b'--x\r\nContent-Disposition: form-data; name="repository_url"; filename="a\x00.txt"\r\n'
        b"Content-Type: text/plain\r\n\r\no/r\r\n--x--\r\n",
        PART,
    ),
    (
        "odd transfer encoding",
        b'--x\r\nContent-Disposition: form-data; name="name"\r\nContent-Transfer-Encoding: base64\r\n\r\n!!\r\n'
        b"--x--\r\n",
        PART,
    ),
    (
        "NUL in a part",
        b'--x\r\nContent-Disposition: form-data; name="prompt_text"\r\n\r\n\x00\xff\xed\xa0\x80\r\n--x--\r\n',
        PART,
    ),
    ("many fields", b"&".join(b"f%d=1" % number for number in range(5000)), FORM),
    (
        "many parts",
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' * 500 + b"--x--\r\n",
        PART,
    ),
    (
        "many files",
        b'--x\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n\r\n1\r\n' * 300 + b"--x--\r\n",
        PART,
    ),
    ("same field often", b"&".join([b"initial_prompt=1"] * 150), FORM),
    ("too large", b"initial_prompt=" + b"x" * (1024 * 1024), FORM),
    (
        "too large as a part",
        b'--x\r\nContent-Disposition: form-data; name="initial_prompt"\r\n\r\n'
        + b"x" * 2_000_000
        + b"\r\n--x--\r\n",
        PART,
    ),
    ("separators", b"&&&===&;;;&=&", FORM),
]


@pytest.mark.parametrize(("body", "kind"), [row[1:] for row in BODIES], ids=[row[0] for row in BODIES])
def test_odd_bodies(visitor: Visitor, body: bytes, kind: str) -> None:
    for address in FIELDS:
        assert visitor.post(address, body, kind) in {200, 302, 400, 413, 422}, address


@pytest.mark.parametrize("length", ["-5", "many", "9" * 30, "99999999", "0"])
def test_lengths_that_lie(visitor: Visitor, length: str) -> None:
    for address in FIELDS:
        assert visitor.post(address, "name=x", CONTENT_LENGTH=length) in {200, 302, 400, 413, 422}, address


ADDRESSES = [
    *(f"/?{name}={value}" for name in ("q", "repository", "page") for value in VALUES.values() if len(value) < 6000),
    "/?status=%00&workflow=%ff&sandbox=x&version=%ED%A0%80",
    "/?" + "&".join(f"a{number}=1" for number in range(300)),
    "/work-orders/new/?repository=%00&issue=%ff",
    "/work-orders/new/?repository=" + "9" * 5000,
    "/work-orders/%00/", "/work-orders/%ff%fe/", "/work-orders/%ED%A0%80/", "/work-orders/" + "x" * 5000 + "/",
    "/work-orders/..%2f..%2fetc/", "/work-orders/wo-aaaaaaaa%0a/", "/work-orders/{order}/changes/0/",
    "/work-orders/{order}/changes/" + "9" * 30 + "/", "/work-orders/{order}/changes/-1/",
    "/work-orders/{order}/feed/?after=-1", "/work-orders/{order}/feed/?before=" + "9" * 30,
    "/work-orders/{order}/feed/?after=%D9%A3", "/work-orders/{order}/?kind=%00", "/work-orders/{order}/state/?v=%ff",
    "/repositories/" + "9" * 30 + "/", "/repositories/0/", "/repositories/{pk}/state/?shown=%00",
    "/repositories/{pk}/issues/?shown=%ff&github_issue_number=%00",
    "/account/login/?next=%00", "/account/login/?next=//evil.example", "/account/login/?next=" + "x" * 6000,
    "/account/keys/" + "9" * 30 + "/revoke/", "/nothing%00", "/%ff", "//evil.example/", "/%2e%2e/%2e%2e/etc/passwd",
    "/static/../../manage.py", "/static/%2e%2e/%2e%2e/manage.py", "/static/%00", "/healthz?%ff",
    "/admin/?%ff", "/admin/workorders/agentworkorder/?q=%00", "/admin/workorders/agentworkorder/%00/change/",
    "/admin/workorders/agentworkorder/?status=%ff&o=999.x&p=99999999999999999999",
    "/admin/workorders/workorderlog/?agent_work_order__id__exact=99999999999999999999999",
    "/admin/workorders/agentworkorder/?created_at__gte=x&created_at__year=0", "/admin/r/9999999999999999999999/1/",
    "/admin/login/?next=%00", "/admin/jsi18n/?language=%00",
]  # fmt: skip


def test_odd_addresses(visitor: Visitor) -> None:
    found = {address[:80]: visitor.get(address) for address in ADDRESSES}
    assert {address: status for address, status in found.items() if status >= 500} == {}


# Without NUL and other control characters, with which gunicorn refuses a request itself.
HEADERS: list[dict[str, str]] = [
    {"Cookie": "sessionid=%00; theme=\xff; csrftoken=" + "x" * 5000},
    {"Cookie": "sessionid=" + "é" * 32},
    {"Cookie": ";;;=;"},
    {"Cookie": "messages=W1siX19qc29uX21lc3NhZ2Ui; theme=<script>"},
    {"HX-Request": "true", "HX-Current-URL": "http://[::1"},
    {"HX-Request": "true", "HX-Current-URL": "\xff", "HX-Current-URL-URI-AutoEncoded": "true"},
    {"HX-Request": "true", "HX-History-Restore-Request": "true", "HX-Target": "<x>", "HX-Prompt": "\xff"},
    {"Referer": "http://[::1", "Origin": "http://[::1"},
    {"If-None-Match": '"' * 5000, "If-Modified-Since": "yesterday", "Range": "bytes=9-1"},
    {"Accept": "x" * 7000, "Accept-Language": "\xff" * 600, "Accept-Encoding": "gzip;q=NaN"},
    {"User-Agent": "\xff" * 7000},
    {"X-Forwarded-Proto": "\xff", "X-Forwarded-For": "\xff", "X-Forwarded-Host": "evil.example"},
    {"Authorization": "Bearer \xff"},
    {"X-HTTP-Method-Override": "DELETE", "X-Requested-With": "XMLHttpRequest"},
    {"Transfer-Encoding": "chunked", "Expect": "100-continue", "Content-Encoding": "gzip"},
]


@pytest.mark.parametrize("headers", HEADERS, ids=lambda headers: str(headers)[:60])
def test_odd_headers(visitor: Visitor, headers: dict[str, str]) -> None:
    for address in (
        "/",
        "/work-orders/{order}/",
        "/work-orders/{order}/state/",
        "/account/",
        "/api/agent-work-orders",
    ):
        assert visitor.get(address, headers) < 500, address
    for client in (visitor.client, Client(raise_request_exception=False)):
        fields = {"username": "nobody", "password": "x"}
        assert client.post("/account/login/", fields, headers=headers).status_code < 500
        assert client.post("/theme/", {"theme": "dark"}, headers=headers).status_code < 500


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "NONSENSE"])
def test_odd_methods(visitor: Visitor, method: str) -> None:
    for address in FIELDS:
        answer = visitor.client.generic(method, visitor.at(address), "a=b", content_type=FORM)
        assert answer.status_code in {200, 405}, address
        assert answer.status_code == 405 or method == "OPTIONS", address
