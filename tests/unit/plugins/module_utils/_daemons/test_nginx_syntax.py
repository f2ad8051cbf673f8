# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""nginx's configuration, read by its grammar."""

import random
import typing as t

import pytest
from ansible_collections.port587.mail.plugins.module_utils._daemons import nginx_syntax
from ansible_collections.port587.mail.plugins.module_utils._daemons.nginx_syntax import Directive


def dump(**files: str) -> str:
    """As `nginx -T` prints them; `main` first, `sites__x` for sites/x."""
    paths = {name: "nginx.conf" if name == "main" else name.replace("__", "/") for name in files}
    return "".join(f"# configuration file /etc/nginx/{paths[name]}:\n{text}\n" for name, text in files.items())


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("a b;c;", [Directive(["a", "b"], None), Directive(["c"], None)]),
        ("a{b c;}d;", [Directive(["a"], [Directive(["b", "c"], None)]), Directive(["d"], None)]),
        ("# a { ;\na b#c; # d\n", [Directive(["a", "b#c"], None)]),
        ("""a "b;{ \\" #" 'c"\\'}';""", [Directive(["a", 'b;{ " #', "c\"'}"], None)]),
        ("a ${b}c d}e \\;f;", [Directive(["a", "${b}c", "d}e", "\\;f"], None)]),
        ('a "" b;', [Directive(["a", "", "b"], None)]),
        # what nginx refuses
        ("}a;} b", [Directive(["a"], None)]),
        ("a { b;", [Directive(["a"], [Directive(["b"], None)])]),
        (";{} a 'b", []),
    ],
)
def test_grammar(text: str, parsed: t.List[Directive]) -> None:
    assert nginx_syntax.parse(text) == parsed


def any_word(chance: random.Random) -> str:
    return "".join(chance.choice("ab1.$;{}#'\"\\ \t\n*:/~^\u00fc") for _ in range(chance.randrange(6)))


def any_tree(chance: random.Random, depth: int = 0) -> t.List[Directive]:
    found = []
    for _ in range(chance.randrange(4)):
        words = ["d"] + [any_word(chance) for _ in range(chance.randrange(3))]
        block = any_tree(chance, depth + 1) if depth < 3 and chance.random() < 0.4 else None
        found.append(Directive(words, block))
    return found


def written(chance: random.Random, tree: t.List[Directive]) -> str:
    """Quoted, with white space and comments wherever the grammar has room for them."""
    text = ""
    for words, block in tree:
        for word in words:
            quote = chance.choice("'\"")
            text += quote + word.replace("\\", "\\\\").replace(quote, "\\" + quote) + quote
            text += chance.choice([" ", "\n\t", " # it's { one; \"\n"])
        text += chance.choice(["", "#}\n"]) + (";" if block is None else "{" + written(chance, block) + "}")
    return text


@pytest.mark.parametrize("seed", range(100))
def test_what_is_written_is_read(seed: int) -> None:
    chance = random.Random(seed)
    tree = any_tree(chance)
    assert nginx_syntax.parse(written(chance, tree)) == tree


@pytest.mark.parametrize("seed", range(100))
def test_nothing_makes_it_fail(seed: int) -> None:
    chance = random.Random(seed)
    parts = [
        "http",
        "server",
        "listen",
        "80",
        "{",
        "}",
        ";",
        "'",
        '"',
        "\\",
        "#",
        "\n",
        " ",
        "include",
        "*",
        "${",
        "\u3042",
        "\0",
    ]
    text = "".join(chance.choice(parts) for _ in range(200))
    nginx_syntax.servers(text)
    nginx_syntax.servers(dump(main=text, a=text))


def test_a_long_file_is_quick() -> None:
    assert len(nginx_syntax.parse("a 'b" + "\\" * 100000)) == 0
    assert len(nginx_syntax.parse("a b;" * 20000 + "{" * 20000)) == 20000


@pytest.mark.parametrize(
    ("servers", "ports"),
    [
        ("server { listen 80; }", {80}),
        (
            "server { server_name x; listen 127.0.0.1:8080 default_server; listen [::1]:81; listen [::]:82 ssl; }",
            {8080, 81, 82},
        ),
        ("server{listen\n443\nssl;}", {443}),
        ("server { return 204; }", {80}),
        ("server { listen localhost; } server { listen [::1]; }", {80}),
        ("server { listen unix:/run/x.sock; }", set()),
        ("server { listen 443 quic; listen 53 udp; }", set()),
        ("server { # listen 80;\n listen 81; }", {81}),
        ('server { add_header x "; listen 80;"; listen 81; }', {81}),
        ("server { location / { proxy_pass http://127.0.0.1:8080; } }", {80}),
        ("server { listen 99999999; }", {80}),
    ],
)
def test_ports(servers: str, ports: t.Set[int]) -> None:
    assert nginx_syntax.ports(dump(main=f"events {{}} http {{ {servers} }}")) == ports


def test_ports_of_other_protocols() -> None:
    text = "stream { server { listen 8000-8002; proxy_pass x:1; } } mail { server { listen 143; } }"
    assert nginx_syntax.ports(dump(main=text)) == {8000, 8001, 8002, 143}
    assert nginx_syntax.ports("") == set()


def test_a_file_stands_where_it_is_included() -> None:
    text = dump(
        main="http { include sites/*; include /etc/nginx/lost; }",
        sites__a="server { include snippets/ports; server_name a.example www.a.example; }",
        sites__b="server {\n  server_name b.example;\n}\ninclude sites/b;",
        snippets__ports="listen 8080;\nlisten 192.0.2.1:443 ssl;\n",
        not_included="server { listen 81; }",
    )
    assert nginx_syntax.servers(text) == [
        nginx_syntax.Server("/etc/nginx/sites/a", {8080}, {443}, ["a.example", "www.a.example"]),
        nginx_syntax.Server("/etc/nginx/sites/b", {80}, set(), ["b.example"]),
    ]


def test_listens_of_a_fragment() -> None:
    tree = nginx_syntax.parse("map a b { listen c; }\nserver { listen *:80; location / { } listen [::]:443 ssl; }")
    assert nginx_syntax.listens(tree) == [["c"], ["*:80"], ["[::]:443", "ssl"]]
