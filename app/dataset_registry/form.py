"""Receives a folder's files from a multipart form into a zip archive, so that both kinds of upload are read alike.

A part's file name is its path below the folder, as browsers send it (`webkitRelativePath`). Each part is written as it
arrives. The archive's reader checks the names.
"""

import hashlib
import zipfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO, BinaryIO

from fastapi import Request
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from darkroom.app.http.problems import Problem
from darkroom.app.http.upload import each_chunk, file_in_a_form, storage_full_as_problem
from darkroom.model.words import several

MOST_FIELDS = 11_000
"""Most fields of a form beside its files; names of classes are one field each."""
MOST_FIELD_BYTES = 4096
ARCHIVES = (".zip", ".npz", ".tar", ".gz", ".tgz")
"""Ends of file names. A form whose files all have them was meant as an upload of an archive."""


@dataclass(frozen=True)
class Form:
    """A received form. fields: the texts of each field. file: a zip archive of the files. digest: of all parts."""

    fields: Mapping[str, list[str]]
    file: BinaryIO
    digest: str


class _Parts:
    """Takes the parts of a form from the parser's callbacks."""

    def __init__(self, archive: zipfile.ZipFile, entries: int) -> None:
        self.fields: dict[str, list[str]] = {}
        self.hasher = hashlib.sha256()
        self.ended = False
        self._archive = archive
        self._entries = entries
        self._names: set[str] = set()
        self._header = (bytearray(), bytearray())
        self._disposition = b""
        self._field: tuple[str, bytearray] | None = None
        self._member: IO[bytes] | None = None

    def parser(self, boundary: bytes) -> MultipartParser:
        """Return a parser of the form's body."""
        return MultipartParser(
            boundary,
            {
                "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                "on_header_end": self._end_header,
                "on_headers_finished": self._begin,
                "on_part_data": lambda data, start, end: self._take(data[start:end]),
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def _end_header(self) -> None:
        if bytes(self._header[0]).lower() == b"content-disposition":
            self._disposition = bytes(self._header[1])
        self._header = (bytearray(), bytearray())

    def _begin(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._disposition = b""
        name, file_name = _name(options.get(b"name", b"")), options.get(b"filename")
        self.hasher.update(repr((name, file_name)).encode())
        if file_name is None:
            if sum(map(len, self.fields.values())) >= MOST_FIELDS:
                raise Problem(422, "form-unreadable", f"the form has more than {MOST_FIELDS} fields")
            self._field = name, bytearray()
        elif file_name:  # a browser sends an empty name for a field in which no file is chosen
            self._begin_file(_name(file_name))

    def _begin_file(self, name: str) -> None:
        if name in self._names:
            raise Problem(422, "form-unreadable", f"the file {name!r} occurs twice in the form")
        if len(self._names) >= self._entries:
            raise Problem(422, "form-unreadable", f"the form has more than {several(self._entries, 'file')}")
        self._names.add(name)
        self._member = self._archive.open(zipfile.ZipInfo(name), "w", force_zip64=True)

    def _take(self, data: bytes) -> None:
        self.hasher.update(data)
        if self._member is not None:
            self._member.write(data)
        elif self._field is not None:
            self._field[1].extend(data)
            if len(self._field[1]) > MOST_FIELD_BYTES:
                raise Problem(422, "form-unreadable", f"the field {self._field[0]!r} is longer than {MOST_FIELD_BYTES}")

    def close(self) -> None:
        """End the file that is being written, if there is one: the archive cannot be closed before."""
        if self._member is not None:
            self._member.close()
            self._member = None

    def _end_part(self) -> None:
        self.hasher.update(b"\0")
        if self._member is not None:
            self.close()
        elif self._field is not None:
            name, value = self._field
            self.fields.setdefault(name, []).append(_text(bytes(value)))
        self._field = None

    def _end(self) -> None:
        if self._names and all(name.lower().endswith(ARCHIVES) for name in self._names):
            raise file_in_a_form()
        self.ended = True


async def received_form(request: Request, entries: int) -> Form:
    """Receive a form into a file without a name. entries: most files. Raises Problem."""
    _, options = parse_options_header(request.headers["content-type"])
    boundary = options.get(b"boundary")
    if not boundary:
        raise Problem(400, "not-a-form", "the Content-Type of a form names its boundary; let the client write it")
    with storage_full_as_problem(), ExitStack() as until_handed_over:
        file = until_handed_over.enter_context(TemporaryFile())
        with zipfile.ZipFile(file, "w") as archive:
            parts = _Parts(archive, entries)
            try:
                await each_chunk(request, parts.parser(boundary).write)
            except FormParserError as error:
                raise Problem(400, "not-a-form", f"the body is not a multipart form: {error}") from error
            finally:
                parts.close()
            if not parts.ended:
                raise Problem(400, "not-a-form", "the form is truncated: its closing boundary is missing")
        file.flush()
        until_handed_over.pop_all()
        return Form(parts.fields, file, parts.hasher.hexdigest())


def _name(content: bytes) -> str:
    """Return a name from a part's header, in which browsers escape line ends and quotation marks (HTML, 4.10.22.7)."""
    name = _text(content)
    for escaped, plain in (("%0D", "\r"), ("%0A", "\n"), ("%22", '"')):
        name = name.replace(escaped, plain)
    return name


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise Problem(422, "form-unreadable", f"{content!r} in the form is not UTF-8") from error
