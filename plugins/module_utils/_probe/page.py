# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the controller.

"""What the pages that are written on the controller have in common."""

#: The beginning of their style sheets.
STYLE = """\
:root { color-scheme: light dark; --line: #8884; --ok: #1a7f37; --warn: #9a6700; --fail: #cf222e; --skip: #6e7781 }
@media (prefers-color-scheme: dark) { :root { --ok: #3fb950; --warn: #d29922; --fail: #f85149; --skip: #8b949e } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 2rem auto; padding: 0 1rem }
body { overflow-wrap: anywhere }
h1 { font-size: 1.5rem; margin-bottom: 0 }
h2 { font-size: 1.15rem; margin-top: 2rem }
.when { color: var(--skip); margin-top: 0 }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0 }
"""
