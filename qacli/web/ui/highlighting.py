"""Code in an answer, with what it is made of marked by CSS classes, in limited time.

Many of Pygments' lexers take quadratic time or worse: 8 kB that are labelled `csharp` keep a
processor busy for 15 seconds, and a match of a regular expression cannot be stopped. So only
lexers are used that were measured: none of `LEXERS` takes more than a few milliseconds from one
token to the next, on any of thousands of repeated patterns, and between two tokens the time is
checked. The languages with curly brackets, whose lexers did not pass, have a small lexer here.
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

LONGEST_CODE = 20_000
"""Characters of a block that is highlighted."""

LONGEST_HIGHLIGHTED = 200_000
"""Characters of its HTML: each token may become ten times as long."""

CODE_SECONDS = 0.04
"""Processor time for one block."""

CURLY = "curly"
LEXERS = {
    **dict.fromkeys(("python", "py", "python3"), "python"),
    **dict.fromkeys(("bash", "sh", "shell", "zsh"), "bash"),
    **dict.fromkeys(("javascript", "js", "jsx", "mjs", "node"), "javascript"),
    **dict.fromkeys(("typescript", "ts", "tsx"), "typescript"),
    **dict.fromkeys(("go", "golang"), "go"),
    **dict.fromkeys(("rust", "rs"), "rust"),
    **dict.fromkeys(("yaml", "yml"), "yaml"),
    **dict.fromkeys(("json", "sql", "xml"), ""),
    **dict.fromkeys(("c", "h", "cpp", "c++", "cc", "hpp", "csharp", "c#", "cs", "java"), CURLY),
    **dict.fromkeys(("kotlin", "kt", "scala", "swift", "dart", "php", "css", "scss"), CURLY),
}
LEXERS |= {name: name for name, lexer in LEXERS.items() if not lexer}
"""The name of the lexer for each name of a language that a fenced block may have."""

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
"""Of C, C++, C#, Java, Kotlin, Scala, Swift, Dart and PHP together."""


class CurlyLexer(RegexLexer):  # type: ignore[misc]  # Pygments has no types
    """A lexer for languages with curly brackets: comments, strings, numbers, names and keywords.

    Each of its patterns reads a character once, and where it fails it has read only a few.
    """

    name = "Curly"
    tokens = {  # noqa: RUF012 - as Pygments wants it
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


def highlight(code: str, language: str, budget: CpuBudget) -> str:
    """Return code as HTML: highlighted where its language and its length allow that.

    Args:
        code: The code.
        language: What a fenced block says that it is, as in "```python"; may be anything.
        budget: The processor time that is left for the answer.
    """
    name = LEXERS.get(language.lower())
    if name is None or len(code) > LONGEST_CODE:
        return escape(code)
    began = thread_time()
    lexer = _lexer(name)
    budget.extend(thread_time() - began)  # to load a lexer takes long, but only once
    html = StringIO()
    try:
        tokens = _limited(lexer.get_tokens(code), budget.at_most(CODE_SECONDS))
        HtmlFormatter(nowrap=True).format(tokens, html)
    except (LimitExceeded, RecursionError):
        return escape(code)
    marked = html.getvalue()
    return marked if len(marked) <= LONGEST_HIGHLIGHTED else escape(code)


@cache
def _lexer(name: str) -> Lexer:
    """Load a lexer; there are as many as in `LEXERS` at most."""
    if name == CURLY:
        return CurlyLexer(stripnl=False, ensurenl=False)
    return get_lexer_by_name(name, stripnl=False, ensurenl=False)


def _limited(
    tokens: Iterator[tuple[_TokenType, str]], budget: CpuBudget
) -> Iterator[tuple[_TokenType, str]]:
    for token in tokens:
        budget.step()
        yield token
