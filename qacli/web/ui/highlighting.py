"""Highlight code in an answer with CSS classes, in limited processor time.

Many of Pygments' lexers take quadratic time or worse: 8 kB labelled `csharp` take 15 seconds, and
a match of a regular expression cannot be stopped. So only measured lexers are used: from one token
to the next, none of `LEXERS` takes more than a few milliseconds on thousands of repeated patterns,
and the time is checked between two tokens. Some languages whose lexers failed that measurement
have a small lexer here: those with curly brackets, ini and Dockerfile.
"""

from collections.abc import Iterator
from functools import cache
from html import escape
from io import StringIO
from time import thread_time

from pygments.formatters.html import HtmlFormatter
from pygments.lexer import Lexer, RegexLexer, words
from pygments.lexers import get_lexer_by_name
from pygments.token import Comment, Keyword, Name, Number, Operator, String, Text, _TokenType

from qacli.web.ui.limits import CpuBudget, LimitExceeded

MAX_CODE_CHARACTERS = 20_000
"""Maximum length of a block that is highlighted."""

MAX_HTML_CHARACTERS = 120_000
"""Maximum length of its HTML, which can be ten times as long as the code."""

CODE_SECONDS = 0.04
"""Processor time for one block."""

LEXERS = {
    **dict.fromkeys(("python", "py", "python3"), "python"),
    **dict.fromkeys(("bash", "sh", "shell", "zsh"), "bash"),
    **dict.fromkeys(("javascript", "js", "jsx", "mjs", "node"), "javascript"),
    **dict.fromkeys(("typescript", "ts", "tsx"), "typescript"),
    **dict.fromkeys(("go", "golang"), "go"),
    **dict.fromkeys(("rust", "rs"), "rust"),
    **dict.fromkeys(("yaml", "yml"), "yaml"),
    **dict.fromkeys(("xml", "html", "svg", "xhtml"), "xml"),
    **dict.fromkeys(("diff", "patch"), "diff"),
    **dict.fromkeys(("json", "sql", "toml"), ""),
    **dict.fromkeys(("ini", "cfg", "conf", "properties"), "ini"),
    **dict.fromkeys(("docker", "dockerfile"), "docker"),
    **dict.fromkeys(("c", "h", "cpp", "c++", "cc", "hpp", "csharp", "c#", "cs", "java"), "curly"),
    **dict.fromkeys(("kotlin", "kt", "scala", "swift", "dart", "php", "css", "scss"), "curly"),
}
LEXERS |= {name: name for name, lexer in LEXERS.items() if not lexer}
"""The name of the lexer for each language that a fenced block may name."""

KEYWORDS = """
abstract alignas alignof as assert async auto await base break case catch class companion const
consteval constexpr continue co_await co_return co_yield crate data decltype default defer def
delegate delete do dyn else enum event explicit export extends extension extern fallthrough
final finally fn for foreach friend from fun func function global goto guard if impl implements
implicit import in init inline inout instanceof interface internal is lateinit let lock loop
match mod module move mut mutable namespace native new noexcept object of open operator override
package partial private protected protocol pub public readonly record ref register
reinterpret_cast requires restrict return sealed select static static_cast struct suspend switch
synchronized template throw throws trait transient try type typealias typedef typename typeof
union unsafe use using val var virtual volatile when where while with yield
"""
TYPES = """
any bool boolean byte char decimal double float i8 i16 i32 i64 i128 int int8 int16 int32 int64
int8_t int16_t int32_t int64_t isize long object sbyte short signed size_t str string u8 u16 u32
u64 u128 uint uint8 uint16 uint32 uint64 uint8_t uint16_t uint32_t uint64_t ulong unsigned
ushort usize void wchar_t float32 float64 f32 f64 Int String Bool Boolean Double Float Long rune
"""
"""The keywords and types of C, C++, C#, Java, Kotlin, Scala, Swift, Dart and PHP together."""


class CurlyLexer(RegexLexer):  # type: ignore[misc]  # Pygments has no types
    """A lexer for languages with curly brackets.

    Each of its patterns reads a character at most once, and fails after a few characters.
    """

    name = "Curly"
    tokens = {  # noqa: RUF012 - Pygments reads it from the class
        "root": [
            (r"\s+", Text),
            (r"//[^\n]*", Comment.Single),
            (r"/\*(?:[^*]|\*(?!/))*(?:\*/)?", Comment.Multiline),
            (
                r"#[ \t]*(?:include|define|undef|ifdef|ifndef|if|elif|else|endif|pragma|error)\b",
                Comment.Preproc,
            ),
            (r'"""(?:[^"\\]|\\.|"(?!""))*(?:""")?', String),
            (r'[@$LuU]{0,2}"(?:[^"\\\n]|\\.)*"?', String),
            (r"'(?:[^'\\\n]|\\.){0,12}'", String.Char),
            (r"`(?:[^`\\]|\\.)*`?", String.Backtick),
            (r"0[xXbBoO][0-9a-fA-F_]+\w*|\d[\d_]*(?:\.\d[\d_]*)?(?:[eE][+-]?\d+)?\w*", Number),
            (r"@[^\W\d]\w*", Name.Decorator),
            (words(TYPES.split(), prefix=r"\b", suffix=r"\b"), Keyword.Type),
            (words(KEYWORDS.split(), prefix=r"\b", suffix=r"\b"), Keyword),
            (r"(?:true|false|null|nil|nullptr|undefined|None|this|self|super)\b", Keyword.Constant),
            (r"[^\W\d][\w$]*(?=[ \t]{0,4}\()", Name.Function),
            (r"[^\W\d][\w$]*", Name),
            (r"[^\s\w]", Operator),
        ]
    }


class IniLexer(RegexLexer):  # type: ignore[misc]
    """A lexer for configuration files with sections and `key = value` lines."""

    name = "Ini"
    tokens = {  # noqa: RUF012
        "root": [
            (r"\s+", Text),
            (r"[#;][^\n]*", Comment.Single),
            (r"\[[^\]\n]*\]?", Keyword),
            (r"[^\s=:#;\[][^\n=:]*", Name.Attribute, "value"),
            (r"[=:][^\n]*", String),
        ],
        "value": [(r"[=:][^\n]*", String, "#pop"), (r"\n", Text, "#pop")],
    }


class DockerLexer(RegexLexer):  # type: ignore[misc]
    """A lexer for a Dockerfile: comments, instructions, strings, flags and variables."""

    name = "Docker"
    tokens = {  # noqa: RUF012
        "root": [
            (r"\s+", Text),
            (r"#[^\n]*", Comment.Single),
            (r"(?m)^[A-Za-z]{2,20}\b", Keyword),
            (r"\b(?:AS|as)\b", Keyword),
            (r'"(?:[^"\\\n]|\\.)*"?', String),
            (r"'[^'\n]*'?", String),
            (r"\$(?:\{[^}\n]{0,200}\}?|\w*)", Name.Variable),
            (r"[^\s\w]", Operator),
            (r"\w+", Text),
        ]
    }


OWN_LEXERS = {"curly": CurlyLexer, "ini": IniLexer, "docker": DockerLexer}


def highlight(code: str, language: str, budget: CpuBudget) -> str:
    """Return code as HTML, highlighted if its language is known and the limits allow it.

    Args:
        code: The code.
        language: The name in the fence, as in "```python"; can be any text.
        budget: The processor time that is left for the answer.
    """
    name = LEXERS.get(language.lower())
    if name is None or len(code) > MAX_CODE_CHARACTERS:
        return escape(code)
    start = thread_time()
    lexer = load_lexer(name)
    budget.extend(thread_time() - start)  # loading a lexer takes long, but happens once
    html = StringIO()
    try:
        tokens = _limited(lexer.get_tokens(code), budget.at_most(CODE_SECONDS))
        HtmlFormatter(nowrap=True).format(tokens, html)
    except (LimitExceeded, RecursionError):
        return escape(code)
    highlighted = html.getvalue()
    return highlighted if len(highlighted) <= MAX_HTML_CHARACTERS else escape(code)


@cache
def load_lexer(name: str) -> Lexer:
    """Load a lexer of `LEXERS`."""
    if name in OWN_LEXERS:
        return OWN_LEXERS[name](stripnl=False, ensurenl=False)
    return get_lexer_by_name(name, stripnl=False, ensurenl=False)


def _limited(
    tokens: Iterator[tuple[_TokenType, str]], budget: CpuBudget
) -> Iterator[tuple[_TokenType, str]]:
    for token in tokens:
        budget.step()
        yield token
