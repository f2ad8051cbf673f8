# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Use Roundcube as a browser does, without running its scripts: pages, forms and a cookie."""

import http.client
import json
import re
import typing as t
import urllib.parse

from mailclient import Account, Server

#: Separates the parts of a form with a file.
_BOUNDARY = "port587-boundary"


class Page(t.NamedTuple):
    status: int
    headers: t.Dict[str, str]
    text: str

    def variables(self) -> t.Dict[str, t.Any]:
        """What the page tells its own scripts."""
        found = re.findall(r"rcmail\.set_env\((\{.*?\})\);\n?", self.text)
        return {name: value for one in found for name, value in json.loads(one).items()}


class Browser:
    """One browser, somewhere: it comes from the address of this machine."""

    def __init__(self, server: Server, language: str = "en") -> None:
        self.server = server
        self.language = language
        self.cookies: t.Dict[str, str] = {}
        self.token = ""

    def get(self, path: str = "/webmail/", **query: t.Any) -> Page:
        return self._ask("GET", path, query)

    def post(self, form: t.Dict[str, t.Any], **query: t.Any) -> Page:
        body = urllib.parse.urlencode({"_token": self.token, **form}, doseq=True)
        return self._ask("POST", "/webmail/", query, body.encode(), "application/x-www-form-urlencoded")

    def upload(self, name: str, content: bytes, **query: t.Any) -> Page:
        part = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="_attachments[]"; filename="{name}"\r\n'
        kind = "Content-Type: application/octet-stream\r\n\r\n"
        body = (part + kind).encode() + content + f"\r\n--{_BOUNDARY}--\r\n".encode()
        return self._ask("POST", "/webmail/", query, body, f"multipart/form-data; boundary={_BOUNDARY}")

    def _ask(self, method: str, path: str, query: t.Dict[str, t.Any], body: bytes = b"", kind: str = "") -> Page:
        connection = http.client.HTTPConnection(self.server.name)
        connection.sock = self.server.context().wrap_socket(self.server.connect(443), server_hostname=self.server.name)
        headers = {"Accept-Language": self.language, "X-Roundcube-Request": self.token}
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if kind:
            headers["Content-Type"] = kind
        names = {f"_{name}": value for name, value in query.items()}
        connection.request(method, f"{path}?{urllib.parse.urlencode(names)}", body or None, headers)
        answer = connection.getresponse()
        for cookie in answer.headers.get_all("Set-Cookie") or []:
            name, _equals, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
            if value == "-del-":
                del self.cookies[name]
        page = Page(answer.status, dict(answer.headers.items()), answer.read().decode("utf-8", "replace"))
        connection.close()
        found = re.search(r'"request_token":"([^"]+)"', page.text)
        if found:
            self.token = found.group(1)
        return page

    def log_in(self, account: Account) -> bool:
        self.get()
        form = {"_task": "login", "_action": "login", "_user": account.address, "_pass": account.password}
        answer = self.post(form, task="login")
        assert answer.status in (302, 401), answer
        if answer.status == 302:
            self.get(task="mail")
        return answer.status == 302

    def subjects(self, folder: str = "INBOX") -> t.List[str]:
        """The newest subjects in a folder."""
        listed = self.get(task="mail", action="list", mbox=folder, remote=1)
        assert listed.status == 200, listed
        rows = re.findall(r"this\.add_message_row\(\d+,(\{.*?\}),\{", json.loads(listed.text)["exec"])
        return [json.loads(row)["subject"] for row in rows]
