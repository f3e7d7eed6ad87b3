"""The fields of a text file, as bytes: refuses what programs read in different ways.

The engine reads `"a" ,` and ` "a",` as a, `"a" "b"` as `a b`, and takes no notice of a row that has
too many fields if the last are empty, which is how a text with a delimiter in it can look.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from siren_rope_jax.base.errors import UserError, one_line
from siren_rope_jax.prepare.config import Format

_LONGEST = 1 << 22  # bytes of a line or quoted field: more than the engine takes
_FIELD = b"\0"  # stands for a quoted field; text files hold none


class Fields:
    """Counts lines, and delimiters between fields, of a file that is read block by block.

    Attributes:
      delimiters: how many there are outside of quoted fields.
      lines: how many there are, with those in quoted fields as one; none of them blank. Only
        counted if quoted fields may hold line ends.
      line_end: the first that is in no quoted field.
    """

    def __init__(self, path: Path, form: Format, delimiter: str) -> None:
        """Takes the file, for messages; its format; and what is between its fields."""
        self._path, self._newlines = path, form.newlines
        self._has_header = not form.columns
        self._delimiter, self._quote = delimiter.encode(), form.quote.encode()
        # What may end or change a field, other than a delimiter.
        self._escape = form.escape_sign.encode() or self._quote
        self._pending = b""  # a line or a quoted field that goes on in the next block
        self._within = False  # whether that field is not the first of its line
        self.delimiters = self.lines = 0
        self.line_end = b""
        if self._quote:
            between, quote = re.escape(self._delimiter), re.escape(self._quote)
            sign = re.escape(form.escape_sign.encode())
            # First the mark, then what is before it, since Python finds single bytes fast.
            before = [rb"\A", rb"[\r\n]", between]
            start = rb"%b(?:%b)" % (quote, b"|".join(rb"(?<=%b%b)" % (b, quote) for b in before))
            plain = rb"[^%b%b]*" % (quote, sign)
            text = rb"%b(?:%b[%b%b]%b)*" % (plain, sign, quote, sign, plain) if sign else plain
            end = rb"%b(?=[\r\n]|%b|\Z)" % (quote, between)
            self._quoted = re.compile(rb"(%b%b(%b|\Z))" % (start, text, end))
            before += [b + b" " for b in before]
            start = rb"%b(?:%b)" % (quote, b"|".join(rb"(?<=%b%b)" % (b, quote) for b in before))
            if sign not in (b"", quote):
                start += rb"|%b(?:[\r\n%b%b]|%b)" % (sign, quote, sign, between)
            self._ambiguous = re.compile(start)

    def add(self, block: bytes, line: int) -> None:
        """Takes the next bytes of the file, before which there are `line` line ends.

        Raises:
          UserError: a quoted field with more before or after its quotation marks; or an escaped
            character outside of one.
        """
        text = self._pending + block
        line -= self._pending.count(b"\n")
        cut = 1 + max(text.rfind(b"\n"), text.rfind(b"\r"))
        whole, self._pending = text[:cut], text[cut:]
        if self._quote and (self._quote in whole or self._escape in whole):
            whole = self._without_quoted(whole, line)
        if len(self._pending) > _LONGEST:
            raise self._refusal(line + whole.count(b"\n"), "is longer than 4 MB, or not closed")
        if not self.line_end and (end := re.search(rb"\r?\n|\r", whole)):
            self.line_end = end[0]
        self.delimiters += whole.count(self._delimiter)
        if self._newlines and whole:
            goes_on = self._within and whole[:1] not in b"\r\n"  # with a line that is counted
            self.lines += len(re.findall(rb"[^\r\n]+", whole)) - goes_on
            self._within = whole[-1:] not in b"\r\n"

    def end(self, line: int) -> None:
        """Ends the file, after `line` line ends; refuses a quoted field that is still open."""
        begin = line - self._pending.count(b"\n")
        if self._pending:
            self.add(self.line_end or b"\n", line)
        if self._pending:
            raise self._refusal(begin, "is not closed")

    def _without_quoted(self, whole: bytes, line: int) -> bytes:
        parts = self._quoted.split(whole)  # text, a quoted field, its end, text, ...
        if len(parts) > 1 and not parts[-2]:  # not closed yet
            self._pending = parts[-3] + self._pending
            parts = parts[:-3]
        outside = _FIELD.join(parts[::3])
        if found := self._ambiguous.search(outside):
            before = outside[: found.start()]
            fields = parts[1::3][: before.count(_FIELD)]
            line += before.count(b"\n") + sum(field.count(b"\n") for field in fields)
            raise self._refusal(line, "is not read alike by all programs")
        return outside

    def _refusal(self, line: int, why: str) -> UserError:
        place = "the header" if line == 0 and self._has_header else f"line {line + 1}"
        return UserError(
            self._path,
            f"{place} has a quoted field that {why}: put quotation marks around a whole "
            "field, with no blanks outside, and escape no other characters than them; or set "
            "config.formats.*.escape if a sign such as a backslash is before those that are part "
            "of the text, or config.formats.*.quote='' if all are",
        )

    def longer_rows(self, lines: Iterator[str], columns: int) -> UserError:
        """What to tell of a file of which some of the `lines` have more fields than columns."""
        place = ""
        if not self._newlines:
            for number, line in enumerate(lines, start=1):
                text = line.encode()
                outside = self._quoted.sub(_FIELD, text) if self._quote else text
                if outside.count(self._delimiter) >= columns:
                    place = f", such as line {number}: {one_line(line.strip(), 60)!r}"
                    break
        return UserError(
            self._path,
            f"has rows with more fields than the {columns} columns{place}. If the last of them are "
            "always empty, name their columns, too; if a delimiter is part of a text, the text "
            "must be between quotation marks",
        )
