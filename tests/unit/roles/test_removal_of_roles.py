# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""remove.yml takes away what the roles set up, whatever is added to them."""

import pytest
from ansible_collections.port587.mail.plugins.module_utils._removal import give_back
from repository import ROOT

yaml = pytest.importorskip("yaml")


def test_every_transaction_of_the_roles_is_removed() -> None:
    named = {"certificates", "accounts"}
    for path in ROOT.glob("roles/*/tasks/*.yml"):
        for task in yaml.safe_load(path.read_text(encoding="utf-8")) or []:
            name = task.get("port587.mail.transaction", {}).get("name", "")
            named |= {name} if name and "{" not in name else set()
    helpers = yaml.safe_load((ROOT / "roles/postfix/vars/main.yml").read_text(encoding="utf-8"))["__postfix_helpers"]
    named |= {helper["name"] for helper in helpers}
    assert named == set(give_back.TRANSACTIONS)


def test_the_user_is_known_by_its_comment() -> None:
    tasks = yaml.safe_load((ROOT / "roles/dovecot/tasks/user.yml").read_text(encoding="utf-8"))
    user = next(task["ansible.builtin.user"] for task in tasks if "ansible.builtin.user" in task)
    assert (user["name"], user["comment"]) == (give_back.USER, give_back.COMMENT)
