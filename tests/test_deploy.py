"""What is in deploy/: the environment file as systemd reads it, and proxies that compress."""

import re

import pytest

from config.env import BASE_DIR, Environment
from deploy.as_the_server import OF_THE_CODE, parsed

DEPLOY = BASE_DIR / "deploy"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=1", "1"),
        ("A=", ""),
        ("  A = two words  \n", "two words"),
        ('A="x y # z" \n', "x y # z"),
        ("A='a\"b$c'", 'a"b$c'),
        ("A=val # comment", "val # comment"),
        ("A=p$ss`w&o;rd%", "p$ss`w&o;rd%"),
        ("A=it's", "it's"),
        ('A=a"b c"d', 'a"b c"d'),
        ("A=one\\\ntwo", "onetwo"),
        ("A=trail\\ ", "trail "),
        ('A="lines\nof it"', "lines\nof it"),
        ('A="q\\"r\\$s\\n"', 'q"r$s\\n'),
        ("A=1\nA=2", "2"),
        ("# A=1\n; A=2\n#x \\\nA=3", "3"),
    ],
)
def test_an_environment_file_is_read_as_systemd_reads_it(text: str, value: str) -> None:
    assert parsed(text) == {"A": value}


@pytest.mark.parametrize("text", ["", "export A=1", "A B=1", "1A=1", "A", "=1", "#A=1"])
def test_what_is_no_variable_is_left_out(text: str) -> None:
    assert parsed(text) == {}


def test_the_environment_file_that_is_shipped() -> None:
    text = (DEPLOY / "work-orders.env").read_text()
    known = {str(field.alias) for field in Environment.model_fields.values()}
    assert set(parsed(text.replace("\n#DATABASE_URL", "\nDATABASE_URL"))) <= known
    assert not [value for value in parsed(text).values() if "#" in value]
    assert "Environment=" not in re.sub(
        r"^#.*$", "", (DEPLOY / "work-orders.service").read_text(), flags=re.MULTILINE
    )


def test_the_wrapper_and_manage_know_the_same_commands_of_the_code() -> None:
    from config import command_line

    assert OF_THE_CODE - {"findstatic"} <= command_line.OF_THE_CODE


def test_the_proxies_compress() -> None:
    assert "encode zstd gzip" in (DEPLOY / "Caddyfile").read_text()
    nginx = (DEPLOY / "nginx.conf").read_text()
    assert "gzip on;" in nginx
    for kind in ("text/css", "text/javascript", "image/svg+xml", "application/json"):
        assert kind in nginx
