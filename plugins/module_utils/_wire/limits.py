# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# May run on any vantage host and on the server: Python 3.6 and the standard library only.

"""Size limits for data from servers, name servers and files.

The other side may be hostile, broken, or the wrong server. Each limit is far above the output of correct programs, and
small enough that all walks together stay below 100 MiB of memory. Time is limited, too: each step of a conversation has
a deadline, and so has the whole conversation (see connection.py).
"""

#: Bytes read from a socket at a time. The deadline is checked before each read, inside TLS, too.
CHUNK = 16384

#: Bytes of one line. SMTP allows 512 and a message 998 (RFC 5321 4.5.3.1); only IMAP's lists are longer.
LONGEST_LINE = 65536

#: Lines of one answer. The longest honest one lists the folders of an IMAP account.
MOST_LINES = 10000

#: Bytes of one answer: its lines, and its literals. The test message has 2 KiB; Postfix takes headers up to 100 KiB.
LARGEST_ANSWER = 1048576

#: The same for a mailbox that moves in: a line for each mail of a folder, and a whole mail. The copy asks for few at a
#: time, which limits the memory.
MOST_LINES_OF_FOLDER = 10000000
LARGEST_MAIL = 1073741824

#: Bytes that a server may send until the TLS handshake is done. OpenSSL takes a chain of up to 100 KiB.
LARGEST_HANDSHAKE = 262144

#: Bytes of a web server's answer. Honest ones have 2 KiB.
LARGEST_PAGE = 65536

#: Addresses of one name that are tried. A server has one or two of each family.
MOST_ADDRESSES = 8

#: Characters of a quoted answer in a report.
LONGEST_TEXT = 300

#: Bytes of a name in DNS, and pointers on the way through one, for it has no more labels (RFC 1035 2.3.4).
LONGEST_NAME = 255
MOST_POINTERS = 127

#: Bytes of a file with certificates. The bundle of all public authorities has 250 KiB.
LARGEST_PEM = 1048576

#: Bytes of one line of a file of accounts, and of one account in it, which in YAML has several lines.
LONGEST_ACCOUNT = 65536

#: How deep lists and mappings may lie in each other in an account. It is a mapping with lists of texts.
DEEPEST_ACCOUNT = 8
