# Copyright (c) The port587.mail contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Runs on the server: Python 3.6 and the standard library only.

"""Which folders of another server are copied, and what they are called here."""

import typing as t

from ansible_collections.port587.mail.plugins.module_utils._move_in import syntax

#: What RFC 6154 calls the folders with a use, and names that servers and clients gave them before, the likeliest first.
USES = {
    "\\sent": (
        "Sent, Sent Items, Sent Messages, Sent Mail, Sent-Mail, Gesendet, Gesendete "
        "Elemente, Gesendete Objekte, Envoyés, Messages envoyés, Éléments envoyés, "
        "Objets envoyés, Enviados, Elementos enviados, Mensajes enviados, Itens "
        "enviados, Posta inviata, Inviata, Inviati, Verzonden, Verzonden items, "
        "Wysłane, Elementy wysłane, Odeslaná pošta, Skickat, Отправленные, 送信済み, "
        "送信済みメール, 送信済みアイテム, 已发送, 已发送邮件, 보낸 편지함"
    ),
    "\\drafts": (
        "Drafts, Draft, Entwürfe, Brouillons, Borradores, Rascunhos, Bozze, Concepten, "
        "Szkice, Wersje robocze, Koncepty, Utkast, Черновики, 下書き, 草稿, 草稿箱, 임시 보관함"
    ),
    "\\trash": (
        "Trash, Deleted Items, Deleted Messages, Deleted, Bin, Papierkorb, Gelöschte "
        "Elemente, Gelöschte Objekte, Gelöscht, Corbeille, Éléments supprimés, "
        "Papelera, Elementos eliminados, Lixeira, Itens Excluídos, Cestino, Posta "
        "eliminata, Prullenbak, Verwijderde items, Kosz, Elementy usunięte, Koš, "
        "Borttaget, Удаленные, Корзина, ゴミ箱, ごみ箱, 削除済みアイテム, 已删除, 已删除邮件, 휴지통"
    ),
    "\\junk": (
        "Junk, Spam, Junk E-mail, Junk Email, Junk Mail, Bulk Mail, Unerwünscht, "
        "Spamverdacht, Werbung, Courrier indésirable, Indésirables, Pourriel, Correo no "
        "deseado, Lixo Eletrônico, Posta indesiderata, Ongewenste e-mail, Wiadomości- "
        "śmieci, Nevyžádaná pošta, Skräppost, Спам, 迷惑メール, 垃圾邮件, 스팸"
    ),
    "\\archive": (
        "Archive, Archives, Archiv, Archivo, Arquivo, Archivio, Archief, Archiwum, "
        "Arkiv, Архив, アーカイブ, 归档, 보관함"
    ),
}
_NAMES = {use: [name.strip().casefold() for name in names.split(",")] for use, names in USES.items()}

#: Folders without mail of their own: the server says so, or shows mail of other folders in them.
_SKIPPED = {"\\noselect", "\\nonexistent", "\\all", "\\flagged", "\\important"}

Path = t.Tuple[str, ...]


class Folder(t.NamedTuple):
    """A folder to copy. ``there``: as the other server spells it; ``shown``: the same for people; ``here``: ours."""

    there: bytes
    shown: str
    here: str


def plan(
    there: t.Sequence[syntax.Listed], own: t.Sequence[bytes], others: t.Sequence[bytes], here: t.Sequence[syntax.Listed]
) -> t.List[Folder]:
    """The folders to copy, with INBOX first.

    ``own``: prefixes of the person's own folders there, such as ``INBOX.``; ``others``: those of others' folders.
    """
    paths = {}  # type: t.Dict[bytes, Path]
    for folder in there:
        # a prefix like Dovecot's "shared/" may be there without folders, and an empty one means nothing
        foreign = any(prefix and (folder.name + folder.delimiter.encode()).startswith(prefix) for prefix in others)
        if not foreign:
            paths[folder.name] = path(folder, own)
    renamed = _by_use([folder for folder in there if folder.name in paths], paths, here)
    found = []
    for folder in there:
        if folder.name in paths and not folder.attributes & _SKIPPED:
            name = "/".join(_rename(paths[folder.name], renamed))
            found.append(Folder(folder.name, syntax.decode(folder.name), name))
    return sorted(found, key=lambda one: (one.here != "INBOX", one.here))


def path(folder: syntax.Listed, own: t.Sequence[bytes]) -> Path:
    """The parts of a folder's name, without the prefix of a person's own folders."""
    name = folder.name
    if name.upper() == b"INBOX":
        return ("INBOX",)
    for prefix in sorted(own, key=len, reverse=True):
        # Courier and Cyrus have INBOX., in any case of letters
        if prefix and name[: len(prefix)].upper() == prefix.upper() and len(name) > len(prefix):
            name = name[len(prefix) :]
            break
    text = syntax.decode(name)
    parts = [part for part in text.split(folder.delimiter) if part] if folder.delimiter else [text]
    # here a / separates folders, and can't be in a name
    return tuple(part.replace("/", "-") for part in parts)


def _by_use(
    there: t.Sequence[syntax.Listed], paths: t.Mapping[bytes, Path], here: t.Sequence[syntax.Listed]
) -> t.Dict[Path, Path]:
    """The other server's Sent, Drafts, Trash, Junk and Archive, and ours: by their marks, else by well-known names."""
    renamed = {}  # type: t.Dict[Path, Path]
    for use, names in _NAMES.items():
        ours = next((path(folder, ()) for folder in here if use in folder.attributes), None)
        marked = next((paths[folder.name] for folder in there if use in folder.attributes), None)
        named = {one[0].casefold(): one for one in paths.values() if len(one) == 1}
        known = marked or next((named[name] for name in names if name in named), None)
        if ours and known and known != ("INBOX",):
            renamed[known] = ours
    return renamed


def _rename(parts: Path, renamed: t.Mapping[Path, Path]) -> Path:
    for length in range(len(parts), 0, -1):
        if parts[:length] in renamed:
            return renamed[parts[:length]] + parts[length:]
    return parts
