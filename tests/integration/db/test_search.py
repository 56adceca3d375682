"""No search text fails, and records are found by their words: random texts, both databases.

The seed is fixed; `QA_TEST_SEARCHES=10000` runs the first test with more searches.
"""

import os
import random
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from conftest import Postgres, migrated

from qacli.config.settings import Settings
from qacli.db.filters import Filter
from qacli.db.models import RECORDS
from qacli.db.records import Store
from qacli.db.search import MAX_TERM_LENGTH, MAX_TERMS, parse_terms, search_condition
from qacli.domain import Outcome, Question, Status
from qacli.errors import QaError

SEARCHES = int(os.environ.get("QA_TEST_SEARCHES", "300"))
QUESTIONS = 40

PIECES = (
    *('"', "'", "''", "(", ")", "*", "-", "+", ":", "^", "~", "&", "|", "!", "<->", "<", ">"),
    *("\\", "/", "%", "_", "?", ";--", "{}", "[]", "$1", "$$", "%s", "%(x)s", ":p", "#", "@", "`"),
    *("NEAR", "NEAR(a b, 2)", "AND", "OR", "NOT", "question:", "{question answer}:", "rowid"),
    *("a", "the", "word", "running", "Ünïcödé", "e\u0301", "ß", "\u0130", "\u01c5", "½", "²", "Ⅷ"),
    *("世界", "どうぞ", "한국어", "नमस्ते", "ไทย", "עברית", "العربية", "𞤀𞤁", "𐒰𐓀", "𞄀", "ꭠ"),
    *(
        "🌍",
        "👨\u200d👩\u200d👧",
        "\U0001d518\U0001d52b\U0001d526",
        "0",
        "1e5",
        "-5",
        "1.5",
        "0x1F",
        "1_000",
        "snake_case",
    ),
    *("a@b.com", "https://x.example/a?b=c#d", "c++", "don't", "don\u2019t", "café", "/etc/hosts"),
    *("\u200b", "\u202e", "\ufeff", "\ufffd", "\uffff", "\x01", "\x1f", "\x7f", "\x85"),
)
SPACES = (" ", " ", " ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "")
NOT_TO_BE_STORED = ("\x00", "\ud800", "\udfff")


def character(rng: random.Random) -> str:
    """Return a random character, but not NUL or a surrogate."""
    code = rng.randrange(1, 0x110000 - 0x800)
    return chr(code if code < 0xD800 else code + 0x800)


def text(rng: random.Random, length: int, spaces: tuple[str, ...] = SPACES) -> str:
    """Return a random text of operators of search languages and other characters."""
    return "".join(
        (rng.choice(PIECES) if rng.random() < 0.6 else character(rng)) + rng.choice(spaces)
        for _ in range(length)
    )


def searches(rng: random.Random, number: int) -> Iterator[str]:
    """Yield random searches of every kind."""
    for turn in range(number):
        if turn % 200 == 0:
            yield rng.choice(PIECES) * rng.randrange(100, 60_000)
        elif turn % 200 == 50:
            yield text(rng, 5_000)
        elif turn % 200 == 100:
            yield " ".join(f"w{rng.randrange(10**6)}" for _ in range(5_000))
        elif turn % 200 == 150:
            yield f'"{text(rng, 5_000).replace(chr(34), "")}"'
        elif turn % 10 == 4:
            yield "".join(rng.choice(PIECES[:33]) for _ in range(rng.randrange(1, 40)))
        elif turn % 10 == 5:
            yield text(rng, rng.randrange(20), (*SPACES, *NOT_TO_BE_STORED))
        else:
            yield text(rng, rng.randrange(20))


@pytest.fixture
def pooled(settings: Settings) -> Iterator[Store]:
    """A store that keeps its connection, because a new one takes longer than a search."""
    migrated(settings).close()
    store = Store.open(settings.database, connections=1)
    yield store
    store.close()


def store_questions(store: Store, number: int, rng: random.Random) -> dict[int, str]:
    """Store random questions with answers; return the questions by id."""
    kept = {}
    for turn in range(number):
        question = f"{turn} {text(rng, rng.randrange(1, 25))}"
        answer = Outcome(status=Status.ANSWERED, answer=text(rng, 5))
        kept[store.upsert(Question(question=question), answer)] = question
    return kept


def search_ids(store: Store, search: str) -> set[int | None]:
    return {record.id for record in store.page(limit=QUESTIONS, only=Filter(search=search))}


def test_search_any_text_raises_no_error(pooled: Store) -> None:
    rng = random.Random(1)
    store_questions(pooled, QUESTIONS, rng)
    for turn, search in enumerate(searches(rng, SEARCHES)):
        only = Filter(search=search)
        try:
            assert pooled.search(only, 3) is not None if turn % 2 else pooled.count(only) >= 0
        except QaError as error:
            # Show the text with which it failed.
            pytest.fail(f"{search[:200]!r}, {len(search)} characters: {error}")


def test_search_each_word_and_the_whole_question_find_it(pooled: Store) -> None:
    rng = random.Random(2)
    for record_id, question in store_questions(pooled, QUESTIONS, rng).items():
        for word in {*question.split(), question}:
            assert record_id in search_ids(pooled, word), f"{word!r} in {question!r}"


def test_search_letters_unknown_to_the_locale_find_the_question(postgres: Postgres) -> None:
    """With the locale C, PostgreSQL treats only ASCII letters as letters."""
    postgres.psql("CREATE DATABASE qa_c TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    store = migrated(Settings(database_url=postgres.get_uri("qa_c")))
    rng = random.Random(3)
    for record_id, question in store_questions(store, QUESTIONS // 4, rng).items():
        for word in {*question.split(), "Ελλάδα"}:
            assert (record_id in search_ids(store, word)) == (word in question), f"{word!r}"
    store.close()


ACCENTED = {
    "Café au lait": ("cafe", "CAFÉ", "cafe\u0301", '"cafe au"', "caf*"),
    "naïve Zoë": ("naive", "zoe", "ZOË", '"naive zoe"'),
    "Žluťoučký kůň": ("zlutoucky", "kun", "KŮŇ", "zlut*"),
    "Düsseldorf, Fräulein": ("dusseldorf", "fraulein", "FRÄULEIN"),
    "São Tomé, piñata, garçon": ("sao", "tome", "pinata", "garcon", '"sao tome"'),
    "Việt Nam": ("viet", "VIỆT", '"viet nam"'),
    "resume\u0301 decomposed": ("resumé", "resume decomposed"),
    "ÅNGSTRÖM": ("angstrom", "ångström"),
    "şükran İstanbul": ("sukran", "istanbul"),
    "йод": ("йод", "ЙОД"),
    "Straße": ("straße", "Straße"),
}


@pytest.mark.parametrize("question", ACCENTED)
def test_search_with_or_without_accents_and_in_any_case_finds_the_question(
    store: Store, question: str
) -> None:
    for other in ACCENTED:
        store.upsert(Question(question=other), Outcome(status=Status.ANSWERED, answer="x"))
    for search in ACCENTED[question]:
        search_ids = [record.question for record in store.search(Filter(search=search), 99)]
        assert search_ids == [question], search


def test_search_finds_questions_with_and_without_an_outcome_by_an_index(store: Store) -> None:
    finished, in_flight = (Question(question=f"Which harbour is {n}?") for n in range(2))
    ids = [store.upsert(finished, Outcome()), store.upsert(in_flight, Outcome())]
    store.upsert(finished, Outcome(status=Status.ANSWERED, answer="The old one."))
    store.upsert(Question(question="Which village?"), Outcome())

    only = Filter(search="harbour")

    assert sorted(record.id or 0 for record in store.page(only=only, limit=9)) == ids
    assert sorted(record.id or 0 for record in store.search(only, 9)) == ids
    if not store.sqlite:
        query = sa.select(RECORDS.c.id).where(*search_condition("harbour", sqlite=False))
        with store.transaction() as connection:
            text = query.compile(connection, compile_kwargs={"literal_binds": True})
            connection.execute(sa.text("SET LOCAL enable_seqscan = off"))
            plan = connection.exec_driver_sql(f"EXPLAIN {text}").scalars()
            lines = "\n".join(plan)
        assert "Seq Scan" not in lines
        for index in ("search", "asking"):
            assert f"ix_question_answer_{index}" in lines


def test_search_word_too_long_for_an_index_is_found(pooled: Store) -> None:
    words = ["w" * 3000, "é" * 3000, "c++" * 1000, "\U0001f30d" * 3000, "a b " * 3000]
    for word in words:
        record_id = pooled.upsert(Question(question=f"What is {word}?"), Outcome())
        assert search_ids(pooled, word) == {record_id}
        assert search_ids(pooled, f'"{word}"') == {record_id}


def test_parse_terms_limits_number_and_length() -> None:
    assert len(parse_terms(" ".join(str(number) for number in range(1000)))) == MAX_TERMS
    assert [len(term.text) for term in parse_terms("x" * 1000)] == [MAX_TERM_LENGTH]
    assert len(parse_terms("same " * 1000)) == 1
