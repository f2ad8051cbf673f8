# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The templates of a role, which lie below the paths that the files have on the server."""

from __future__ import annotations

import re
import typing as t

from ansible.plugins.action import ActionBase
from ansible.plugins.loader import lookup_loader


class _Variables(t.Dict[str, t.Any]):
    """Variables, of which the lookup makes a deep copy for each template, and then changes only the first level.

    Between all templates of a site, that copying was more than a tenth of a run that changes nothing.
    """

    def __deepcopy__(self, memo: dict[int, t.Any]) -> dict[str, t.Any]:
        return dict(self)


def destination(source: str) -> str:
    """Where the file goes that is made of this template or copy."""
    return "/" + re.sub(r"\.j2$", "", source)


def render(action: ActionBase, path: str, task_vars: dict[str, t.Any]) -> str:
    """The content of the file. ``path``: the template's, as the action has found it."""
    lookup = lookup_loader.get("ansible.builtin.template", loader=action._loader, templar=action._templar)
    return str(lookup.run([path], variables=_Variables(task_vars))[0])
