"""The command line's part of access: options that say who asks, and what stands in a web configuration for secrets."""

from __future__ import annotations

import argparse
import getpass
import hashlib
import os
import secrets
import sys

from filoray.cluster.errors import BadData
from filoray.command.client_access import DEFAULT_URL, ClientAccess, client_access

_COST = 10
_PASSWORD_BYTES_MAX = 72


_OPTIONS = {
    "user": ("NAME", "who asks, where the gateway asks for it (FILORAY_USER)"),
    "password-file": ("FILE", "the user's password is in it (FILORAY_PASSWORD_FILE, FILORAY_PASSWORD)"),
    "token-file": ("FILE", "a token is in it, instead of a user (FILORAY_TOKEN_FILE, FILORAY_TOKEN)"),
    "ca-file": ("FILE", "PEM of the authority that an https gateway's certificate is from (FILORAY_CA_FILE)"),
    "server-certificate": ("FILE", "PEM of the one certificate to trust, whatever its name"),
    "client-certificate": ("FILE", "PEM to show where the gateway demands a certificate"),
    "client-key": ("FILE", "its key"),
}


def add_client_options(parser: argparse.ArgumentParser, *, with_url: bool = True) -> None:
    """What every command has that asks a gateway."""
    if with_url:
        parser.add_argument("--url", help=f"a gateway (FILORAY_URL, {DEFAULT_URL})")
    for name, (form, text) in _OPTIONS.items():
        parser.add_argument(f"--{name}", metavar=form, help=text)


def client_access_of(options: argparse.Namespace) -> ClientAccess:
    """Raises ConfigError for files that cannot be read and half of a pair."""
    names = ("url", *_OPTIONS)
    return client_access({name: getattr(options, name.replace("-", "_")) for name in names}, os.environ)


def password_hash() -> int:
    """Ask for a password (or read a line of standard input) and print its bcrypt hash for basic_auth_users."""
    import bcrypt

    if sys.stdin.isatty():
        password = getpass.getpass("Password: ")
        if getpass.getpass("Again: ") != password:
            raise BadData("the passwords differ")
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    encoded = password.encode()
    if not 0 < len(encoded) <= _PASSWORD_BYTES_MAX or b"\0" in encoded:
        raise BadData(f"a password has 1 to {_PASSWORD_BYTES_MAX} bytes: bcrypt looks at no more")
    print(bcrypt.hashpw(encoded, bcrypt.gensalt(_COST)).decode())
    return 0


def new_token() -> int:
    """Print a new token and the line that lets it in."""
    token = secrets.token_urlsafe(32)
    print(f"token:  {token}   # give it to the client; it is written nowhere")
    print(f"sha256: {hashlib.sha256(token.encode()).hexdigest()}   # for filoray.tokens of the web configuration")
    return 0
