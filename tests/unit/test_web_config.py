"""The web configuration's text: what it may say, and how what it may not is refused."""

import bcrypt
import pytest

from filoray.cluster.errors import ConfigError
from filoray.http.access.access_policy import Role
from filoray.http.access.web_config import parse_web_config

HASH = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
DIGEST = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"


def test_users_are_admins_unless_the_file_gives_them_less(tmp_path):
    text = f"""
basic_auth_users: {{alice: {HASH}, grafana: {HASH}, "007": {HASH}}}
filoray:
  users:
    grafana: {{roles: {{"*": read, shop: write}}}}
  tokens:
    - {{name: agent, sha256: {DIGEST.upper()}, roles: {{shop: write}}}}
"""
    config = parse_web_config(text, "web.yml", tmp_path)
    assert config.asks_who
    assert config.keeps_strangers_out
    alice, grafana = config.users["alice"].identity, config.users["grafana"].identity
    assert (alice.role(None), alice.role("shop"), config.users["007"].identity.name) == (Role.ADMIN, Role.ADMIN, "007")
    assert (grafana.role(None), grafana.role("shop"), grafana.role("other")) == (Role.READ, Role.WRITE, Role.READ)
    (token,) = config.tokens
    assert (token.digest.hex(), token.identity.name) == (DIGEST, "agent")
    assert (token.identity.role(None), token.identity.role("shop")) == (Role.NONE, Role.WRITE)


def test_all_of_prometheus_s_tls_that_can_be_done_here(tmp_path):
    text = """
tls_server_config:
  cert_file: server.crt
  key_file: /keys/server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.crt
  client_allowed_sans: [agent.example.org]
  min_version: TLS13
  max_version: TLS13
  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]
  prefer_server_cipher_suites: false
http_server_config:
  http2: true
  headers: {X-Frame-Options: deny, Strict-Transport-Security: max-age=31536000}
"""
    config = parse_web_config(text, "web.yml", tmp_path)
    assert config.tls.files() == [tmp_path / "server.crt", tmp_path.__class__("/keys/server.key"), tmp_path / "ca.crt"]
    assert config.tls.ciphers == ("ECDHE-RSA-AES128-GCM-SHA256",)
    assert (config.tls.min_version, config.tls.prefer_server_ciphers) == ("TLS13", False)
    assert config.headers == {"X-Frame-Options": "deny", "Strict-Transport-Security": "max-age=31536000"}
    assert (config.asks_who, config.keeps_strangers_out) == (False, True)


@pytest.mark.parametrize("text", ["", "{}", "# nothing", "basic_auth_users:", "basic_auth_users: {}\nfiloray:\n"])
def test_an_empty_file_asks_nobody(text, tmp_path):
    config = parse_web_config(text, "web.yml", tmp_path)
    assert (config.tls, config.asks_who, config.keeps_strangers_out) == (None, False, False)


TLS = "tls_server_config: {cert_file: a, key_file: b, "
WRONG = [
    ("basic_auth_user: {}", "basic_auth_user: there is no such key; known here: basic_auth_users, filoray"),
    ("[]", "is not a block of keys"),
    ("a: b: c", "mapping values are not allowed"),
    (f"basic_auth_users: {{a: {HASH}, a: {HASH}}}", "a is there twice"),
    ("basic_auth_users: {a: secret}", r"basic_auth_users\.a: this is not a bcrypt hash"),
    (f"basic_auth_users: {{a: {HASH.replace('$04$', '$31$')}}}", "not a bcrypt hash of a cost up to 16"),
    (f"basic_auth_users: {{'a:b': {HASH}}}", "cannot be empty or have a colon"),
    (f"basic_auth_users: {{yes: {HASH}}}", "True is no text; put it in quotes"),
    ("basic_auth_users: {a: !!python/object/apply:os.system [id]}", "could not determine a constructor"),
    (
        'filoray: {users: {bob: {roles: {"*": read}}}}',
        r"filoray\.users\.bob: there is no such user",
    ),
    (f"basic_auth_users: {{a: {HASH}}}\nfiloray: {{users: {{a: {{}}}}}}", r"users\.a\.roles: at least one is needed"),
    (
        f'basic_auth_users: {{a: {HASH}}}\nfiloray: {{users: {{a: {{roles: {{"*": owner}}}}}}}}',
        "'owner' is not one",
    ),
    (f'basic_auth_users: {{a: {HASH}}}\nfiloray: {{users: {{a: {{role: {{"*": read}}}}}}}}', "at least one is needed"),
    ("filoray: {tokens: [{name: a, sha256: b, roles: {x: read}}]}", r"tokens\[0\]\.sha256: this is not the 64 hex"),
    (f"filoray: {{tokens: [{{name: a, sha256: {DIGEST}}}]}}", "at least one is needed"),
    (f"filoray: {{tokens: [{{name: a, sha256: {DIGEST}, roles: {{x: read}}, x: 1}}]}}", r"tokens\[0\]\.x: there is no"),
    (f"filoray: {{tokens: [{', '.join([f'{{name: a, sha256: {DIGEST}, roles: {{x: read}}}}'] * 2)}]}}", "there twice"),
    ("filoray: {token: []}", r"filoray\.token: there is no such key; known here: tokens, users"),
    ("tls_server_config: {cert_file: a}", "key_file: this key is needed and missing"),
    (TLS + "client_auth_type: RequireAnyClientCert}", "RequireAnyClientCert verifies nothing"),
    (TLS + "client_auth_type: Nonsense, client_ca_file: c}", "'Nonsense' is not one of NoClientCert"),
    (TLS + "client_auth_type: RequireAndVerifyClientCert}", "client_ca_file: RequireAndVerifyClientCert needs it"),
    (TLS + "client_ca_file: c}", "NoClientCert looks at no certificate"),
    (TLS + "min_version: TLS13, max_version: TLS12}", "TLS13 is above max_version TLS12"),
    (TLS + "min_version: SSL3}", "'SSL3' is not one of TLS10"),
    (TLS + "cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]}", "is not one of TLS_ECDHE"),
    (TLS + "curve_preferences: [X25519]}", "Python's TLS does not let one choose curves"),
    (TLS + "cert: x}", "only files are read here; give cert_file"),
    (TLS + "insecure: true}", r"tls_server_config\.insecure: there is no such key"),
    (TLS + "prefer_server_cipher_suites: 1}", "'1' is not true or false"),
    ("http_server_config: {headers: {X-Other: a}}", r"headers\.X-Other: there is no such key"),
    ('http_server_config: {headers: {X-Frame-Options: "a\\r\\nb: c"}}', "cannot stand in a header"),
    ("rate_limit: {interval: 1s}", "rate_limit: there is no such key"),
]


@pytest.mark.parametrize(("text", "problem"), WRONG)
def test_what_is_wrong_is_refused_by_name(text, problem, tmp_path):
    with pytest.raises(ConfigError, match=problem) as caught:
        parse_web_config(text, "web.yml", tmp_path)
    assert caught.value.message.startswith("web.yml: ")
