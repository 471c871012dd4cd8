"""Secrets in addresses: put in properly, never shown."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import SourceError
from agent.sources.address import redact, scheme_of, with_credentials

SECRET = "S3cr"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://cam/stream", "rtsp://cam/stream"),
        ("rtsp://admin:S3cr@cam:554/stream", "rtsp://***@cam:554/stream"),
        ("rtsp://admin:a@S3cr@cam/stream", "rtsp://***@cam/stream"),
        ("rtsp://admin:a/S3cr@cam/stream", "rtsp://***@cam/stream"),
        ("rtsp://admin:1/2?S3cr#x@cam/stream", "rtsp://***@cam/stream"),
        ("rtsp://admin:a'\" S3cr@cam/stream", "rtsp://***@cam/stream"),
        ("rtsp://S3cr@cam/stream", "rtsp://***@cam/stream"),
        ("http://cam/snap?usr=S3cr&pwd=S3cr&x=1", "http://cam/snap?usr=***&pwd=***&x=1"),
        ("http://cam/snap?access_token=S3cr", "http://cam/snap?access_token=***"),
        ("http://[::1]:8080/video", "http://[::1]:8080/video"),
        ("http://cam/@tele/video", "http://cam/@tele/video"),
        ("/srv/videos/a@b.mp4", "/srv/videos/a@b.mp4"),
        (
            "gst:rtspsrc location=rtsp://u:S3cr@cam/s user-pw=S3cr ! appsink",
            "gst:rtspsrc location=rtsp://***@cam/s user-pw=*** ! appsink",
        ),
    ],
)
def test_an_address_is_shown_without_its_secrets(address: str, shown: str) -> None:
    assert redact(address) == shown
    assert SECRET not in redact(address)


@given(st.text(min_size=1), st.text())
def test_any_user_and_password_survive_the_url_and_do_not_show(user: str, password: str) -> None:
    try:
        url = with_credentials("rtsp://cam:8554/live/1", user, password)
    except UnicodeEncodeError:
        return  # half a surrogate pair has no encoding; no file or config can hold one
    parts = urlsplit(url)
    assert (unquote(parts.username or ""), unquote(parts.password or "")) == (user, password)
    assert (parts.hostname, parts.port, parts.path) == ("cam", 8554, "/live/1")
    assert redact(url) == "rtsp://***@cam:8554/live/1"


def test_configured_credentials_replace_those_in_the_url() -> None:
    assert with_credentials("rtsp://old:one@cam/s", "new", "p@ss") == "rtsp://new:p%40ss@cam/s"


def test_a_user_in_the_url_is_completed_by_the_password_of_the_file() -> None:
    assert with_credentials("rtsp://admin@cam/s", None, "a b") == "rtsp://admin:a%20b@cam/s"


def test_without_credentials_the_url_stays_as_it_is() -> None:
    assert with_credentials("rtsp://a:b@cam/s", None, None) == "rtsp://a:b@cam/s"


def test_a_password_without_a_user_is_refused_and_not_shown() -> None:
    with pytest.raises(SourceError, match="username") as caught:
        with_credentials("rtsp://cam/s", None, SECRET)
    assert SECRET not in str(caught.value)


def test_a_scheme_is_what_stands_before_colon_and_slashes() -> None:
    assert scheme_of("RTSP://cam") == "rtsp"
    assert scheme_of("my-cam+tls://x") == "my-cam+tls"
    assert scheme_of("/dev/video0") == scheme_of("a:b.mp4") == ""
