"""Text modules that the interpreter lacks, as far as workflows use them (see `builtin_parts`)."""

from __future__ import annotations

import re
from typing import Any

_string_ascii_lowercase = "abcdefghijklmnopqrstuvwxyz"
_string_ascii_uppercase = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_string_ascii_letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_string_digits = "0123456789"
_string_hexdigits = "0123456789abcdefABCDEF"
_string_octdigits = "01234567"
_string_punctuation = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
_string_whitespace = " \t\n\r\x0b\x0c"
_string_printable = (
    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ \t\n\r\x0b\x0c"
)


def _string_capwords(s: str, sep: Any = None) -> str:
    return (sep or " ").join([word.capitalize() for word in s.split(sep)])


class _string_Template:
    def __init__(self, template: str) -> None:
        self.template = template

    def fill(self, values: Any, safe: bool) -> str:
        parts = []
        last = 0
        for found in re.finditer(
            r"\$(\$|[_a-zA-Z][_a-zA-Z0-9]*|\{[_a-zA-Z][_a-zA-Z0-9]*\})", self.template
        ):
            name = found.group(1).strip("{}")
            parts.append(self.template[last : found.start()])
            last = found.end()
            if name == "$":
                parts.append("$")
            elif safe and name not in values:
                parts.append(found.group(0))
            else:
                parts.append(str(values[name]))
        return "".join(parts) + self.template[last:]

    def substitute(self, *mapping: Any, **values: Any) -> str:
        return self.fill({**(mapping[0] if mapping else {}), **values}, False)

    def safe_substitute(self, *mapping: Any, **values: Any) -> str:
        return self.fill({**(mapping[0] if mapping else {}), **values}, True)


def _textwrap_dedent(text: str) -> str:
    lines = [line if line.strip() else "" for line in text.split("\n")]
    margin = None
    for line in lines:
        if line:
            indent = line[: len(line) - len(line.lstrip())]
            if margin is None:
                margin = indent
            while not indent.startswith(margin):
                margin = margin[:-1]
    return "\n".join([line[len(margin or "") :] for line in lines])


def _textwrap_indent(text: str, prefix: str, predicate: Any = None) -> str:
    lines = text.splitlines(True)
    wanted = predicate or (lambda line: line.strip())
    return "".join([prefix + line if wanted(line) else line for line in lines])


def _textwrap_wrap(text: str, width: int = 70, **options: Any) -> Any:
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] = lines[-1] + " " + word
        else:
            while len(word) > width:
                lines.append(word[:width])
                word = word[width:]
            lines.append(word)
    return lines


def _textwrap_fill(text: str, width: int = 70, **options: Any) -> str:
    return "\n".join(_textwrap_wrap(text, width))


def _textwrap_shorten(text: str, width: int, placeholder: str = " [...]", **options: Any) -> str:
    text = " ".join(text.split())
    if len(text) <= width:
        return text
    kept = ""
    for word in text.split():
        longer = kept + " " + word if kept else word
        if len(longer) + len(placeholder) > width:
            break
        kept = longer
    return kept + placeholder if kept else placeholder.strip()


def _html_escape(s: str, quote: bool = True) -> str:
    s = s.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return s.replace('"', "&quot;").replace("'", "&#x27;") if quote else s


def _html_unescape(s: str) -> str:
    for name, letter in (
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", '"'),
        ("&#x27;", "'"),
        ("&#39;", "'"),
        ("&nbsp;", "\xa0"),
        ("&amp;", "&"),
    ):
        s = s.replace(name, letter)
    return s


def _ast_literal_eval(text: Any) -> Any:
    tokens = re.findall(
        r"\s*([rbu]?'(?:[^'\\\n]|\\.)*'|[rbu]?\"(?:[^\"\\\n]|\\.)*\"|[\[\](){},:]"
        r"|[-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[A-Za-z_]\w*|\S)",
        text.strip(),
    )
    tokens.append("")
    reader = _LiteralReader(tokens)
    value = reader.value()
    if reader.take() != "":
        raise ValueError("malformed node or string")
    return value


class _LiteralReader:
    def __init__(self, tokens: Any) -> None:
        self.tokens = tokens
        self.at = 0

    def take(self) -> str:
        token: str = self.tokens[self.at]
        self.at += 1
        return token

    def items(self, end: str) -> Any:
        found = []
        commas = 0
        while self.tokens[self.at] != end:
            item = self.value()
            if end == "}" and self.tokens[self.at] == ":":
                self.at += 1
                item = [item, self.value()]
                commas = commas - 1000000
            found.append(item)
            if self.tokens[self.at] == ",":
                self.at += 1
                commas += 1
            elif self.tokens[self.at] != end:
                raise SyntaxError("invalid syntax")
        self.at += 1
        return found, commas

    def value(self) -> Any:
        token = self.take()
        if token in ("True", "False", "None"):
            return {"True": True, "False": False, "None": None}[token]
        if token == "[":
            return self.items("]")[0]
        if token == "(":
            found, commas = self.items(")")
            return found[0] if len(found) == 1 and commas == 0 else tuple(found)
        if token == "{":
            found, commas = self.items("}")
            if commas < 0:
                return {key: item for key, item in found}  # noqa: C416
            return set(found) if found else {}
        if token[-1:] in ("'", '"') and len(token) > 1:
            return _literal_text(token)
        if re.fullmatch(r"[-+]?\d[\d_]*", token):
            return int(token)
        if re.fullmatch(r"[-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", token):
            return float(token)
        if token == "" or not re.fullmatch(r"\w+", token):
            raise SyntaxError("invalid syntax")
        if self.tokens[self.at] not in ("", ",", ":", "]", ")", "}", "("):
            raise SyntaxError("invalid syntax")
        raise ValueError("malformed node or string")


def _literal_text(token: str) -> str:
    if token[0] == "r":
        return token[2:-1]
    text = token[token.index(token[-1]) + 1 : -1]
    escapes = {"n": "\n", "t": "\t", "r": "\r", "\n": "", "0": "\0"}
    parts = []
    last = 0
    for found in re.finditer(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|[\s\S])", text):
        parts.append(text[last : found.start()])
        last = found.end()
        code = found.group(1)
        if len(code) > 1:
            parts.append(chr(int(code[1:], 16)))
        else:
            parts.append(escapes.get(code, code if code in "\\'\"" else "\\" + code))
    return "".join(parts) + text[last:]


def _re_sub(pattern: Any, repl: Any, string: str, count: int = 0, flags: Any = 0) -> Any:
    if isinstance(repl, str):
        return re.sub(pattern, repl, string, count=count, flags=flags)
    return _replaced(re.finditer(pattern, string, flags), repl, string, count)[0]


def _re_subn(pattern: Any, repl: Any, string: str, count: int = 0, flags: Any = 0) -> Any:
    found = list(re.finditer(pattern, string, flags))
    if isinstance(repl, str):
        made = len(found) if count == 0 else min(count, len(found))
        return re.sub(pattern, repl, string, count=count, flags=flags), made
    return _replaced(found, repl, string, count)


def _m_sub(compiled: Any, *args: Any, **kwargs: Any) -> Any:
    repl = args[0] if args else kwargs.get("repl")
    if isinstance(repl, str) or type(compiled).__name__ != "Pattern":
        return compiled.sub(*args, **kwargs)
    string = args[1] if len(args) > 1 else kwargs["string"]
    count = args[2] if len(args) > 2 else kwargs.get("count", 0)
    return _replaced(compiled.finditer(string), repl, string, count)[0]


def _replaced(matches: Any, repl: Any, string: str, count: int) -> Any:
    parts = []
    last = 0
    made = 0
    for found in matches:
        if count and made == count:
            break
        parts.append(string[last : found.start()])
        parts.append(repl(found))
        last = found.end()
        made += 1
    return "".join(parts) + string[last:], made


def _verbose(pattern: str) -> str:
    parts = []
    inside = False
    at = 0
    while at < len(pattern):
        letter = pattern[at]
        if letter == "\\":
            parts.append(pattern[at : at + 2])
            at += 2
            continue
        if inside:
            inside = letter != "]"
        elif letter == "[":
            inside = True
        elif letter == "#":
            end = pattern.find("\n", at)
            at = len(pattern) if end < 0 else end + 1
            continue
        elif letter in " \t\n\r\x0b\x0c":
            at += 1
            continue
        parts.append(letter)
        at += 1
    return "".join(parts)


def _pprint_pformat(value: Any, **options: Any) -> str:
    return repr(value)


def _pprint_pprint(value: Any, **options: Any) -> None:
    return None


class _SequenceMatcher:
    def __init__(self, isjunk: Any = None, a: Any = "", b: Any = "", autojunk: bool = True) -> None:
        self.a = a
        self.b = b

    def longest(self, a1: int, a2: int, b1: int, b2: int) -> Any:
        best = (a1, b1, 0)
        lengths: dict[int, int] = {}
        for i in range(a1, a2):
            row: dict[int, int] = {}
            for j in range(b1, b2):
                if self.a[i] == self.b[j]:
                    row[j] = lengths.get(j - 1, 0) + 1
                    if row[j] > best[2]:
                        best = (i - row[j] + 1, j - row[j] + 1, row[j])
            lengths = row
        return best

    def ratio(self) -> float:
        total = len(self.a) + len(self.b)
        matched = 0
        pending = [(0, len(self.a), 0, len(self.b))]
        while pending:
            a1, a2, b1, b2 = pending.pop()
            i, j, size = self.longest(a1, a2, b1, b2)
            if size:
                matched += size
                pending.append((a1, i, b1, j))
                pending.append((i + size, a2, j + size, b2))
        return 2.0 * matched / total if total else 1.0

    def quick_ratio(self) -> float:
        return self.ratio()


_difflib_SequenceMatcher = _SequenceMatcher


def _difflib_get_close_matches(
    word: Any, possibilities: Any, n: int = 3, cutoff: float = 0.6
) -> Any:
    scored = [(_SequenceMatcher(None, other, word).ratio(), other) for other in possibilities]
    best = sorted([pair for pair in scored if pair[0] >= cutoff], reverse=True)
    return [other for _, other in best[:n]]


class _Logger:
    def __init__(self) -> None:
        self.name = "workflow"

    def debug(self, *args: Any, **kwargs: Any) -> None:
        return None

    def info(self, *args: Any, **kwargs: Any) -> None:
        return None

    def warning(self, *args: Any, **kwargs: Any) -> None:
        return None

    def error(self, *args: Any, **kwargs: Any) -> None:
        return None

    def exception(self, *args: Any, **kwargs: Any) -> None:
        return None

    def critical(self, *args: Any, **kwargs: Any) -> None:
        return None

    def log(self, *args: Any, **kwargs: Any) -> None:
        return None

    def setLevel(self, level: Any) -> None:
        return None

    def addHandler(self, handler: Any) -> None:
        return None


def _quiet(*args: Any, **kwargs: Any) -> None:
    return None


def _logging_getLogger(name: Any = None) -> Any:
    return _Logger()


_logging_basicConfig = _quiet
_logging_debug = _quiet
_logging_info = _quiet
_logging_warning = _quiet
_logging_error = _quiet
_logging_exception = _quiet
_logging_critical = _quiet
_logging_DEBUG = 10
_logging_INFO = 20
_logging_WARNING = 30
_logging_ERROR = 40
_logging_CRITICAL = 50
_warnings_warn = _quiet
_warnings_filterwarnings = _quiet
_warnings_simplefilter = _quiet
_traceback_print_exc = _quiet


def _traceback_format_exc(*args: Any) -> str:
    return "Traceback (most recent call last):\n"


def _inspect_iscoroutine(value: Any) -> bool:
    return type(value).__name__ == "coroutine"


_inspect_isawaitable = _inspect_iscoroutine
