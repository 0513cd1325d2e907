"""HOCON as https://github.com/lightbend/config/blob/main/HOCON.md has it: texts and what comes of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from filoray.cluster.config.hocon import parse_file, parse_posted
from filoray.cluster.config.parse_budget import ParseBudget, ParseLimits
from filoray.cluster.errors import ConfigError

RIGHT: dict[str, tuple[str, object]] = {
    # ---- "Syntax": values, separators, comments
    "omitted root braces": ("a = 1", {"a": 1}),
    "root braces": (" { a = 1 } # end\n", {"a": 1}),
    "nothing": ("", {}),
    "only comments": ("# a\n// b\n", {}),
    "a byte order mark": ("\ufeffa = 1", {"a": 1}),
    "a byte order mark is white space": ("a\ufeff=\ufeff1", {"a": 1}),
    "colon or equals sign": ("a : 1, b=2", {"a": 1, "b": 2}),
    "no sign before a block": ("a { b { c = 1 } }", {"a": {"b": {"c": 1}}}),
    "a block on the next line": ("a\n{\nb = 1\n}", {"a": {"b": 1}}),
    "a value on the next line": ("a =\n\n 1", {"a": 1}),
    "a sign on the next line": ("a\n= 1", {"a": 1}),
    "lines and commas between fields": ("a=1\n\n\nb=2,c=3,\nd=4\n,\n", {"a": 1, "b": 2, "c": 3, "d": 4}),
    "lines and commas between elements": ("a = [1\n2,\n\n3\n,4,]", {"a": [1, 2, 3, 4]}),
    "carriage returns": ("a = 1\r\nb = [1,\r\n2]\r\n", {"a": 1, "b": [1, 2]}),
    "other white space": ("a\u00a0=\u20031\u3000", {"a": 1}),
    "comments everywhere": ("a # x\n = // y\n 1 # z\nb = [ # {\n1 // ]\n]", {"a": 1, "b": [1]}),
    "a comment ends a text": ("a = x # y\nb = x// y", {"a": "x", "b": "x"}),
    "no comment in quotes": ('a = "x # y", b = "http://h/"', {"a": "x # y", "b": "http://h/"}),
    "a slash in a text": ("a = /x/y", {"a": "/x/y"}),
    "null, true, false": ("a = null, b = true, c = false", {"a": None, "b": True, "c": False}),
    "words that are no booleans": ("a = yes, b = on, c = TRUE, d = nullable", {
        "a": "yes", "b": "on", "c": "TRUE", "d": "nullable"}),
    "an empty block and list": ("a {}, b = [], c = {\n}, d = [\n]", {"a": {}, "b": [], "c": {}, "d": []}),
    "lists of blocks": ("a = [{b:1}\n{b:2}, [3]]", {"a": [{"b": 1}, {"b": 2}, [3]]}),
    # ---- numbers and what looks like one
    "numbers": ("a = 7, b = -7, c = 1.5, d = 0, e = -0.25", {"a": 7, "b": -7, "c": 1.5, "d": 0, "e": -0.25}),
    "the characters written": ("a = 5d, b = 007, c = 1e3, d = 1.10, e = -0, f = 1.", {
        "a": "5d", "b": "007", "c": "1e3", "d": "1.10", "e": "-0", "f": "1."}),
    "more of them": ("a = 1.2.3, b = 1-2, c = 2026-11-25, d = 1e+5, e = 0x1f, f = 1_000, g = 10.0.0.7", {
        "a": "1.2.3", "b": "1-2", "c": "2026-11-25", "d": "1e+5", "e": "0x1f", "f": "1_000", "g": "10.0.0.7"}),
    "numbers that no computer word holds": ("a = 99999999999999999999, b = 1e999, c = -1e-999", {
        "a": "99999999999999999999", "b": "1e999", "c": "-1e-999"}),
    "digits of other scripts are text": ("a = ١, b = 1²", {"a": "١", "b": "1²"}),
    "durations and sizes": ("a = 1h, b = 24 hours, c = 512MB, d = 16m, e = 1 minute", {
        "a": "1h", "b": "24 hours", "c": "512MB", "d": "16m", "e": "1 minute"}),
    # ---- texts
    "escapes": (r'a = "\" \\ \/ \b \f \n \r \t é"', {"a": '" \\ / \b \f \n \r \t é'}),
    "a surrogate pair": (r'a = "\ud83d\ude00"', {"a": "😀"}),
    "three quotes": ('a = """x "y" \\n\n z"""', {"a": 'x "y" \\n\n z'}),
    "quotes at the end of three quotes": ('a = """x""""", b = """"""', {"a": 'x""', "b": ""}),
    "no substitution in quotes": ('a = 1, b = "${a}", c = """${a}"""', {"a": 1, "b": "${a}", "c": "${a}"}),
    "words with spaces": ("a =  two   words  \nb = x y", {"a": "two   words", "b": "x y"}),
    "quoted and not": ('a = "x" y "z"w, b = 1 "2"', {"a": "x y zw", "b": "1 2"}),
    "characters kept in a row": ("a = 1.10 x, b = 1.10 007, c = true 1, d = null x", {
        "a": "1.10 x", "b": "1.10 007", "c": "true 1", "d": "null x"}),
    "signs that are allowed": ("a = x.y-z_/%;'<>|~()é中", {"a": "x.y-z_/%;'<>|~()é中"}),
    # ---- keys
    "dotted keys": ("a.b.c = 1, a.b.d = 2", {"a": {"b": {"c": 1, "d": 2}}}),
    "quoted dots": ('"a.b".c = 1, d."e.f" = 2', {"a.b": {"c": 1}, "d": {"e.f": 2}}),
    "half quoted": ('a"b.c"d = 1', {"ab.cd": 1}),
    "an empty key": ('"" = 1, a."" = 2', {"": 1, "a": {"": 2}}),
    "keys with spaces": ("a b c = 1", {"a b c": 1}),
    "number keys": ("3 = x, 3.14 = y, -1 = z, 007 = w", {"3": {"14": "y"}, "-1": "z", "007": "w"}),
    "keys that are words of the language": ("true = 1, null = 2, false.x = 3", {
        "true": 1, "null": 2, "false": {"x": 3}}),
    "keys of other scripts": ("ключ = 1, 键.é = 2, ß = 3, 𝒳 = 4", {"ключ": 1, "键": {"é": 2}, "ß": 3, "𝒳": 4}),
    # ---- the word include
    "include in a comment": ('# include "x"\n// include "y"\na = 1', {"a": 1}),
    "include in a text": ('a = include "x", b = "include \\"y\\"", c = do include file', {
        "a": "include x", "b": 'include "y"', "c": "do include file"}),
    "include in a key": ('include-dir = 1, a.include = 2, "include" = 3, foo include = 4, includes { a = 5 }', {
        "include-dir": 1, "a": {"include": 2}, "include": 3, "foo include": 4, "includes": {"a": 5}}),
    "include in another case": ("Include = 1, INCLUDE.x = 2", {"Include": 1, "INCLUDE": {"x": 2}}),
    # ---- "Duplicate keys and object merging"
    "the later one": ("a = 1, a = 2", {"a": 2}),
    "blocks merge": ("a { b = 1, c = 2 }, a { c = 3, d = 4 }, a.e = 5", {"a": {"b": 1, "c": 3, "d": 4, "e": 5}}),
    "something between ends the merge": ("a { b = 1 }, a = 5, a { c = 2 }", {"a": {"c": 2}}),
    "null between ends the merge": ("a { b = 1 }, a = null, a { c = 2 }", {"a": {"c": 2}}),
    "a list replaces": ("a = [1], a = [2]", {"a": [2]}),
    # ---- "Value concatenation"
    "lists side by side": ("a = [1] [2]\n b = [1][2,3] [[4]]", {"a": [1, 2], "b": [1, 2, 3, [4]]}),
    "blocks side by side": ("a = {b:1} {c:2}{b:3}", {"a": {"b": 3, "c": 2}}),
    "blocks in a list": ("a = [{b:1} {c:2}, {d:3}]", {"a": [{"b": 1, "c": 2}, {"d": 3}]}),
    "a block over a substituted one": ('g = { size = 6 }, e = ${g} { name = "e" }', {
        "g": {"size": 6}, "e": {"size": 6, "name": "e"}}),
    "a list behind a substituted one": ("p = [ /bin ]\np = ${p} [ /usr/bin ]", {"p": ["/bin", "/usr/bin"]}),
    "numbered keys are a list": ("a = { \"1\" : b, \"0\" : a }, b = ${a} [c]", {
        "a": {"1": "b", "0": "a"}, "b": ["a", "b", "c"]}),
    "spaces around substituted texts": ("a = x, b = ${a} ${a}, c = ${a}${a}, d = ${a}/y, e = ${a} \"z\"", {
        "a": "x", "b": "x x", "c": "xx", "d": "x/y", "e": "x z"}),
    "spaces around substituted lists": ("a = [1], b = ${a}  ${a}", {"a": [1], "b": [1, 1]}),
    "substituted numbers keep their characters": ("a = 1.10, b = v${a}, c = ${a}, d = true, e = ${d}", {
        "a": "1.10", "b": "v1.10", "c": "1.10", "d": True, "e": True}),
    "null side by side": ("a = null, b = x${a}", {"a": None, "b": "xnull"}),
    # ---- "Substitutions"
    "forwards and backwards": ("a = ${c}, b = 1, c = ${b}", {"a": 1, "b": 1, "c": 1}),
    "the last value counts": ("a = ${b}, b = 1, b = 2", {"a": 2, "b": 2}),
    "of a block": ("a { x = 1 }, b = ${a}, b.y = 2", {"a": {"x": 1}, "b": {"x": 1, "y": 2}}),
    "quoted paths": ('"a.b" { c = 1 }, d = ${"a.b".c}, e = ${ "a.b".c }', {"a.b": {"c": 1}, "d": 1, "e": 1}),
    "a brace in a path": ('"a}" = 1, b = ${"a}"}', {"a}": 1, "b": 1}),
    "in lists": ("a = [1, ${b}, x${b}], b = 2", {"a": [1, 2, "x2"], "b": 2}),
    "in blocks of lists": ("a = [{ c = ${b} }], b = 2", {"a": [{"c": 2}], "b": 2}),
    "from inside a block to its own keys": ("bar : { foo : 42, baz : ${bar.foo} }", {"bar": {"foo": 42, "baz": 42}}),
    "and to the later one of them": ("bar : { foo : 42, baz : ${bar.foo} }\nbar : { foo : 43 }", {
        "bar": {"foo": 43, "baz": 43}}),
    "across two blocks": ("bar : { a : ${foo.d}, b : 1 }\nbar.b = 3\nfoo : { c : ${bar.b}, d : 2 }\nfoo.d = 4", {
        "bar": {"a": 4, "b": 3}, "foo": {"c": 3, "d": 4}}),
    "one that is hidden is not looked at": ("a = ${gone}, a = 1", {"a": 1}),
    "optional and there": ("a = 1, b = ${?a}", {"a": 1, "b": 1}),
    "optional and not there": ("b = ${?a}", {}),
    "the earlier value stays": ("p = 9092\np = ${?X}\np = ${?Y}", {"p": 9092}),
    "the earlier block stays": ("p { a = 1 }\np = ${?X}\np { b = 2 }", {"p": {"a": 1, "b": 2}}),
    "optional in a list": ("c = [timestamp, ${?UNSET}, metric]", {"c": ["timestamp", "metric"]}),
    "only optional in a list": ("c = [${?A}, ${?B}]", {"c": []}),
    "optional beside a list": ("c = ${?A} [1] ${?B}", {"c": [1]}),
    "optional beside a block": ("c = ${?A} { b = 1 } ${?B}", {"c": {"b": 1}}),
    "optional beside a text": ("c = x${?A}y, d = foo ${?A} bar", {"c": "xy", "d": "foo  bar"}),
    "several optional ones": ("c = ${?A}${?B}", {}),
    "the spaces between optional ones": ("a = ${?A} ${?B}, b = [${?A}  ${?B}], c = ${?A} [1]", {
        "a": " ", "b": ["  "], "c": [1]}),
    "optional through another": ("a = ${?b}, b = ${?c}", {}),
    # ---- "Self-referential substitutions"
    "a self-reference looks back": ('path = "a:b"\npath = ${path}":/x"', {"path": "a:b:/x"}),
    "twice": ("more = [m]\ncols = [a]\ncols = ${cols}${more}\ncols = ${cols}${more}", {
        "more": ["m"], "cols": ["a", "m", "m"]}),
    "of a nested key": ("a { b = 1 }\na { b = ${a.b}2 }\na.b = ${a.b}3", {"a": {"b": "123"}}),
    "of a part": ("foo : { a : { c : 1 } }\nfoo : ${foo.a}\nfoo : { a : 2 }", {"foo": {"a": 2, "c": 1}}),
    "of a block in its own": ("a { x = 1 }\na = ${a} { y = 2 }\na = ${a} { z = ${a.x} }", {
        "a": {"x": 1, "y": 2, "z": 1}}),
    "with nothing before, optional": ("a = ${?a}foo", {"a": "foo"}),
    "alone, optional": ("a = ${?a}", {}),
    "in its own list": ("a = [1], a = [${a}, 2]", {"a": [[1], 2]}),
    "beside another key": ("a = 1, b = 2, b = ${b}${a}", {"a": 1, "b": "21"}),
    # ---- "The += field separator"
    "+= on nothing": ("a += 1", {"a": [1]}),
    "+= on a list": ("a = [1], a += 2, a += 3", {"a": [1, 2, 3]}),
    "+= in a block": ("s { c = [x], c += y }, s.c += z, s { c += w }", {"s": {"c": ["x", "y", "z", "w"]}}),
    "+= on nothing in a block": ("s { c += y }", {"s": {"c": ["y"]}}),
    "+= of lists and blocks": ("t.a += [], t.a += [1], t.a += {b:2}", {"t": {"a": [[], [1], {"b": 2}]}}),
    "+= of a substitution": ("x = 1, a += ${x}, a += ${?gone}, a += v${x}", {"x": 1, "a": [1, "v1"]}),
    "+= of itself": ("a = [1], a += ${a}", {"a": [1, [1]]}),
    "+= behind a substituted list": ("b = [1], a = ${b}, a += 2", {"b": [1], "a": [1, 2]}),
    "= behind +=": ("a += 1, a = 2", {"a": 2}),
    "+= between = of itself": ("a = [1], a += 2, a = ${a} [3], a += 4", {"a": [1, 2, 3, 4]}),
}  # fmt: skip

WRONG = {
    "an open block": ("a {\n b = 1\n", "t:3:1: cannot be parsed: unexpected the end of the text; wanted is } for the"),
    "an open list": ("a = [1", "t:1:7: cannot be parsed: unexpected the end of the text; wanted is ] for the ["),
    "a block too many": ("a = 1\n}", "t:2:1: cannot be parsed: unexpected '}'; wanted is the end of the text"),
    "brackets crossed": ("a = [ { b = 1 ] }", "t:1:15: cannot be parsed"),
    "two commas": ("a = 1,,b = 2", "t:1:7: cannot be parsed: unexpected ','; wanted is a key"),
    "two commas in a list": ("a = [1,\n,2]", "t:2:1: cannot be parsed"),
    "a comma first": (",a = 1", "t:1:1: cannot be parsed"),
    "a comma first in a list": ("a = [,1]", "t:1:6: cannot be parsed"),
    "no value": ("a = ", "t:1:5: cannot be parsed: unexpected the end of the text; wanted is a value"),
    "no key": ("= 1", "t:1:1: cannot be parsed: unexpected '='; wanted is a key"),
    "a key alone": ("a = 1\nb", "t:2:2: cannot be parsed: unexpected the end of the text; wanted is =, :, += or {"),
    "something behind the root": ("{ a = 1 } b = 2", "t:1:11: cannot be parsed"),
    "a list": ("[1, 2]", "t:1:1: a configuration is a set of keys and values, not a list"),
    "an empty path": (".a = 1", "t:1:1: cannot be parsed: a key has nothing before its '.'"),
    "two dots": ("a..b = 1", "t:1:1: cannot be parsed: a key has nothing before its '.'"),
    "a dot at the end": ("a. = 1", "t:1:1: cannot be parsed: a key is empty, or ends in '.'"),
    "an open text": ('a = 1\nb = "x\ny"', "t:2:5: cannot be parsed: '\"x' is a text that has no end on its line"),
    "open three quotes": ('a = """x""', 't:1:5: cannot be parsed: a text that begins with """ has no end'),
    "a control character": ('a = "x\x01"', "or a control character"),
    "an unknown escape": (r'a = "x\q"', r"t:1:7: cannot be parsed: \q is no escape"),
    "a short escape": (r'a = "\u12"', r"\u is no escape"),
    "half a surrogate pair": (r'a = "\ud800"', "has half of a surrogate pair"),
    "half a surrogate pair in a key": (r'{"\udc00": 1}', "has half of a surrogate pair"),
    "an open substitution": ("a = ${b", "t:1:5: cannot be parsed: '${b' is a substitution that has no end"),
    "an empty substitution": ("a = ${}", "t:1:5: cannot be parsed: a substitution needs a path"),
    "a sign in a substitution": ("a = ${b=c}", "t:1:8: cannot be parsed: '=' in a substitution's path"),
    "a substitution as a key": ("${a} = 1", "t:1:1: cannot be parsed"),
    "a reserved character": ("a = b+c", "t:1:6: cannot be parsed: unexpected '+c'; a text with '+' must be quoted"),
    "another": ("a = x\nb = user@host", "t:2:9: cannot be parsed: unexpected '@host'"),
    "a path with colon": ("a = C:\\x", "t:1:6: cannot be parsed"),
    "two values in a line": ("a = {} b", "t:1:5: a list is joined with lists, a block with blocks"),
    "a text and a list": ("a = x [1]", "t:1:5: a list is joined with lists"),
    "a block and a list": ("a = {b:1} [1]", "t:1:5: a list is joined with lists"),
    "include as a key": ("include = 1", "t:1:1: cannot be parsed: include is not followed by a quoted file name"),
    "nothing to resolve with": ("a = ${b.c}", "t:1:5: ${b.c} cannot be resolved: there is no such key, and posted"),
    "a self-reference to nothing": ("a = ${a}x", "t:1:5: ${a} cannot be resolved: it refers to itself"),
    "a ring": ("a = ${b}, b = ${c}, c = ${a}", "${a} cannot be resolved: it refers to itself"),
    "a block in itself": ("a { b = ${a} }", "a block contains itself through a substitution"),
    "a list in itself": ("a = [${a}]", "${a} cannot be resolved: it refers to itself"),
    "+= on a text": ("a = x, a += 1", "t:1:8: += needs a list before it"),
    "a path through a text": ("a = 1, b = ${a.c}", "${a.c} cannot be resolved"),
}  # fmt: skip


def posted(text: str) -> object:
    return parse_posted(text, ParseBudget("t", ParseLimits(timeout_ms=600_000)))


@pytest.mark.parametrize("name", RIGHT)
def test_what_comes_of_a_text(name: str) -> None:
    text, values = RIGHT[name]
    given = posted(text)
    assert json.dumps(given) == json.dumps(values), "types and the order of keys, too"


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_with_its_place(name: str) -> None:
    text, message = WRONG[name]
    with pytest.raises(ConfigError) as caught:
        posted(text)
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ('{"a": 1, "b": [1.5, "x", null, true, {}]}', {"a": 1, "b": [1.5, "x", None, True, {}]}),
        ('{"a.b": {"c": 1}}', {"a.b": {"c": 1}}),
        ('{"a": 1.10, "b": 1e3, "c": -0, "d": 1E400}', {"a": "1.10", "b": "1e3", "c": "-0", "d": "1E400"}),
        ('{"s": {"x": 1}, "d": 1, "s": {"y": 2, "x": 3}, "d": 2}', {"s": {"x": 3, "y": 2}, "d": 2}),
        ('{"s": {"x": 1}, "s": null, "s": {"y": 2}}', {"s": {"y": 2}}),
        ('{"s": {"t": {"x": 1}}, "s": {"t": {"y": 2}}}', {"s": {"t": {"x": 1, "y": 2}}}),
        ('{"a": NaN}', {"a": "NaN"}),
        ("{'a': 1}", {"'a'": 1}),
        ('{"a": "\\ud83d\\ude00"}', {"a": "😀"}),
    ],
)
def test_json_is_read_as_json_and_double_keys_merge(text: str, values: object) -> None:
    assert json.dumps(posted(text)) == json.dumps(values)


def test_files_include_and_substitute(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "source.conf").write_text(
        'host = h\nhost = ${?HOST}\nservers = ${host}":9092"\ninclude "inner/store"\n'
    )
    (tmp_path / "inner" / "store.conf").write_text('store { size = ${size} }\ninclude file("deep.json")')
    (tmp_path / "inner" / "deep.json").write_text('{"deep": true}')
    (tmp_path / "server.conf").write_text(
        'size = 5, include "gone", d = { include required("source.conf"), extra = ${d.host} }, path = ${PATH_LIKE}'
    )
    expected = {
        "size": 5,
        "d": {"host": "k", "servers": "k:9092", "store": {"size": 5}, "deep": True, "extra": "k"},
        "path": "/bin",
    }
    assert parse_file(tmp_path / "server.conf", {"HOST": "k", "PATH_LIKE": "/bin"}) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('include required("gone.conf")', "server.conf:1:1: the included file 'gone.conf' is not there"),
        ('include url("http://h/x")', "include reads files only"),
        ('include "http://h/x"', "include reads files only"),
        ('include required(file("server.conf")', r"wanted is \) after the included file's name"),
        ('include "server.conf"', "files include each other more than 16 deep"),
        ('include "broken.conf"', r"broken\.conf:2:1: cannot be parsed"),
        ("a = ${b}", r"server\.conf:1:5: \$\{b\} cannot be resolved: there is no such key$"),
    ],
)
def test_a_wrong_include_is_named(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "broken.conf").write_text("a = 1\n}")
    (tmp_path / "server.conf").write_text(text)
    with pytest.raises(ConfigError, match=problem):
        parse_file(tmp_path / "server.conf", {})
