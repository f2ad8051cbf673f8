# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The web page with instructions, in a browser. Screenshots are kept in .cache/clients."""

import pytest
from conftest import PICTURES, Desktop, Site

testinfra_hosts = ["ansible://mail"]


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("width", [1100, 390])
@pytest.mark.parametrize(("language", "title"), [("en", "Set up your mail"), ("ja", "メールの設定")])
def test_in_chromium(site: Site, desktop: Desktop, language: str, title: str, width: int) -> None:
    chromium = "chromium --headless --no-sandbox --disable-gpu --user-data-dir=/tmp/chromium --enable-logging=stderr"
    common = f"{chromium} --accept-lang={language} --window-size={width},1900 --hide-scrollbars"
    url = f"https://{site.server.name}/"
    dom = desktop.machine.run(f"{common} --dump-dom {url}")
    assert f"<title>{title}: {site.server.name}</title>" in dom.stdout
    assert f'<html lang="{language}">' in dom.stdout
    # a resource that was refused, or asked for elsewhere, would be complained of
    assert "CONSOLE" not in dom.stderr, dom.stderr
    shot = desktop.machine.run(f"{common} --screenshot=/tmp/page.png {url}")
    assert "written to file" in shot.stderr
    desktop.keep("/tmp/page.png", f"page-{language}-{width}.png")
    assert (PICTURES / f"page-{language}-{width}.png").stat().st_size > 20000
