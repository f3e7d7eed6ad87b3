"""Text files of rows: their header, and what must be known of their bytes before a parser runs.

A parser of CSV reads what it is given: a stray quotation mark can swallow rows, and a file that is
cut off can look complete. So every file is first read as bytes, and its lines are counted.
"""

import codecs
import csv
import dataclasses
import errno
import gzip
import re
import stat
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.prepare.config import Format
from siren_rope_jax.prepare.quoting import Fields

UNNAMED = "unnamed"
"""What a first column without a name is called."""
_BLOCK = 1 << 20  # bytes read at once; also the longest header
_TYPE_SUFFIXES = (":token", ":token_seq", ":float", ":float_seq")  # of RecBole's .inter files
_MARKS = (  # how a file begins that is no text in UTF-8; that of UTF-32 begins with UTF-16's
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
    (b"\x1f\x8b", "gzip"),
    (b"PK\x03\x04", "a zip archive"),
    (b"PAR1", "Parquet"),
)
_BLANK_LINE = re.compile(rb"\n(?=\r?\n)")


@dataclasses.dataclass(frozen=True)
class Lines:
    """The lines of a text file.

    Attributes:
      count: those that are not blank, the header among them.
      mixed: whether some end in CR LF and others in LF.
      marked: whether the file begins with a byte order mark.
    """

    count: int
    mixed: bool
    marked: bool


def is_gzipped(path: Path) -> bool:
    """Whether the name says so, in small letters or capitals."""
    return path.suffix.lower() == ".gz"


def plain_name(path: Path) -> str:
    """The name without the ".gz" of a gzipped file."""
    return path.name[:-3] if is_gzipped(path) else path.name


def check_readable(path: Path) -> None:
    """Refuses what is not an ordinary file, or may not be read.

    Raises:
      UserError: it is a folder, a pipe or a device; or it cannot be opened.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise UserError(path, f"is a folder; name a file, or several as '{path}/*.csv'")
        if stat.S_ISFIFO(mode):
            raise UserError(path, "is a pipe, and a log is read twice; save it to a file first")
        if not stat.S_ISREG(mode):
            raise UserError(path, "is not a regular file, but a device or a socket")
        path.open("rb").close()
    except OSError as error:
        raise UserError(path, f"cannot be read: {error.strerror}") from error


def inspect(path: Path, newlines: bool = False, fields: Fields | None = None) -> Lines:
    """Reads a text file to its end, as bytes.

    Args:
      path: of the file, perhaps gzipped.
      newlines: whether fields may hold line ends, so that these can differ.
      fields: checks the fields of its lines.

    Raises:
      UserError: it is damaged, not text in UTF-8, holds NUL, or has line ends of a lone CR among
        others.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    lf = crlf = cr = blank = size = 0
    marked = False
    tail = b"\n"  # before the first line, as after any other
    with _opened(path) as file:
        while block := file.read(_BLOCK):
            if block.endswith(b"\r"):
                block += file.read(1)  # so that no line end is cut in two
            try:
                decoder.decode(block)
            except UnicodeDecodeError as error:
                raise _not_text(path, block, lf + cr, error.start, size) from error
            if b"\0" in block:
                line = lf + cr + 1 + block[: block.index(b"\0")].count(b"\n")
                raise UserError(path, f"line {line} holds a NUL byte; it is not a text file")
            marked = marked or (size == 0 and block.startswith(codecs.BOM_UTF8))
            if fields:
                fields.add(block if size else block.removeprefix(codecs.BOM_UTF8), lf + cr)
            whole = tail + block
            if b"\n\n" in whole or b"\n\r\n" in whole:
                blank += len(_BLANK_LINE.findall(whole))
            in_block = block.count(b"\n")
            returns = block.count(b"\r")
            ends = block.count(b"\r\n") if returns else 0
            lf, crlf, cr = lf + in_block, crlf + ends, cr + returns - ends
            size += len(block)
            tail = block[-1:]
        try:
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise UserError(path, "ends within a character of UTF-8; it is cut off") from error
    if cr and lf and not newlines:
        raise UserError(
            path,
            f"has {cr} carriage returns (CR) that end no line, beside lines that end in LF; "
            "convert its line ends, or let quoted fields hold them: config.formats.*.newlines=True",
        )
    unended = tail not in (b"\n", b"\r")
    lines = cr + unended if cr and not lf else lf + unended - blank
    if fields:
        fields.end(lf + cr)
    return Lines(lines, 0 < crlf < lf and not newlines, marked)


def _not_text(path: Path, block: bytes, before: int, at: int, size: int) -> UserError:
    marks = () if size else _MARKS
    for mark, what in marks:
        if block.startswith(mark):
            convert = f"convert it: iconv -f {what} -t UTF-8 {path.name} > new.csv"
            archive = "unpack it, or give it the end of the name of such files"
            return UserError(path, f"is {what}; {convert if what[:3] == 'UTF' else archive}")
    line = before + 1 + block[:at].count(b"\n")
    return UserError(path, f"line {line} is not UTF-8 text; convert the file with iconv")


def read_header(path: Path, form: Format, delimiter: str) -> list[str]:
    """The names of the columns, from the first line of a file.

    A first column without a name, such as pandas' index, is called "unnamed".

    Raises:
      UserError: the file has no header, or one that cannot be read.
    """
    with _opened(path) as file:
        begin = file.read(_BLOCK)
    first = re.split(rb"\r\n|\n|\r", begin, maxsplit=1)[0]
    if len(first) == _BLOCK:
        raise UserError(path, f"its first line is longer than {_BLOCK} bytes; is it a table?")
    try:
        header = first.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_text(path, begin, 0, error.start, 0) from error
    if not header.strip():
        raise UserError(path, "the file has no header line")
    if not form.quote:
        names = header.split(delimiter)
    else:
        double = form.escape_sign in ("", form.quote)
        one = "\0" if len(delimiter) > 1 else delimiter  # all that Python's reader can do
        try:
            (names,) = csv.reader(
                [header.replace(delimiter, one)],
                delimiter=one,
                quotechar=form.quote,
                doublequote=double,
                escapechar=None if double else form.escape_sign,
                strict=True,
            )
        except (csv.Error, ValueError) as error:
            raise UserError(path, f"its header cannot be read: {error}") from error
        names = [name.replace(one, delimiter) for name in names]
    for suffix in _TYPE_SUFFIXES:
        names = [name.strip().removesuffix(suffix) for name in names]
    if len(names) > 1 and not names[0]:
        names[0] = UNNAMED
    return names


def write_plainly(path: Path, output: Path, newlines: bool) -> None:
    """Writes a text file anew, without a byte order mark and, unless `newlines`, CR before LF."""
    with _opened(path) as file, output.open("wb") as copy:
        if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
            file.seek(0)
        while block := file.read(_BLOCK):
            if block.endswith(b"\r"):
                block += file.read(1)
            copy.write(block if newlines else block.replace(b"\r\n", b"\n"))


def lines(path: Path) -> Generator[str]:
    """The lines of a UTF-8 text file, perhaps gzipped, with their ends; refuses a damaged one."""
    number = 0
    with _opened(path) as file:
        try:
            for number, line in enumerate(file, start=1):
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise UserError(path, f"line {number} is not UTF-8 text") from error


def check_gzip(path: Path) -> None:
    """Refuses a damaged gzip file, or another one, whatever its name is."""
    with _opened(path, gzipped=True) as file:
        while file.read(_BLOCK):
            pass


@contextmanager
def _opened(path: Path, gzipped: bool | None = None) -> Iterator[IO[bytes]]:
    """The bytes of a file, unpacked if its name says so; what is wrong with it is reported."""
    packed = is_gzipped(path) if gzipped is None else gzipped
    try:
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            yield cast(IO[bytes], file)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        tip = "fetch it again (gzip -t must accept it)"
        raise UserError(path, f"is truncated or damaged ({error}); {tip}") from error
    except OSError as error:
        if error.errno == errno.ENOSPC:  # of what is written meanwhile
            raise
        raise UserError(path, f"cannot be read: {error.strerror or error}") from error
