"""Sources and images in the shapes of the providers."""

from typing import Any

import pytest

from qacli.citations import MAX_SOURCES, Image, Source, images, sources

PAGE = Source("https://a.example/x", "A page")
NESTED = {"type": "url_citation", "url_citation": {"url": PAGE.url, "title": PAGE.title}}
FLAT = {"type": "url_citation", "url": PAGE.url, "title": PAGE.title, "start_index": 3}
GROUNDING = {"groundingChunks": [{"web": {"uri": PAGE.url, "title": PAGE.title}}, {"maps": {}}]}


@pytest.mark.parametrize(
    "details",
    [
        {"annotations": [NESTED]},
        {"annotations": [FLAT]},
        {"citations": [PAGE.url], "search_results": [{"url": PAGE.url, "title": PAGE.title}]},
        {"citations": [{"url": PAGE.url, "title": PAGE.title}]},
        {"grounding_metadata": GROUNDING},
        {"extra_content": {"google": {"grounding_metadata": [GROUNDING]}}},
    ],
)
def test_sources_each_shape_of_a_provider_gives_the_page(details: dict[str, Any]) -> None:
    assert sources(details) == [PAGE]


def test_sources_keep_the_numbers_of_citations() -> None:
    details = {
        "search_results": [{"url": "https://b.example/", "title": "B"}],
        "citations": ["https://a.example/", "https://b.example/", "https://a.example/"],
    }
    assert sources(details) == [
        Source("https://a.example/", ""),
        Source("https://b.example/", "B"),
    ]


@pytest.mark.parametrize(
    "url",
    [
        *(
            "javascript:alert(1)",
            "data:text/html,x",
            "ftp://a.example/",
            "//a.example/",
            "https://",
        ),
        *("https://a.example/\x1b]8;;", "https://a.example/\u202e", "https://a b.example/"),
        *('https://a.example/">', "https://a.example/<b>", "http://[", "http://a/" + "x" * 2000),
        *(None, 1, [], {"uri": "https://a.example/"}),
    ],
)
def test_sources_other_than_web_addresses_are_left_out(url: object) -> None:
    assert sources({"citations": [url, PAGE.url]}) == [Source(PAGE.url, "")]


@pytest.mark.parametrize(
    "value", [None, "x", 1, {}, [None], [[]], [{}], [{"type": "url_citation"}]]
)
@pytest.mark.parametrize("name", ["annotations", "citations", "search_results", "groundingChunks"])
def test_sources_unexpected_shapes_give_nothing(name: str, value: object) -> None:
    assert sources({name: value}) == []


def test_sources_of_a_flood_are_limited() -> None:
    details = {"citations": [f"https://a.example/{number}" for number in range(5000)]}
    assert len(sources(details)) == MAX_SOURCES


def test_sources_title_is_one_short_line() -> None:
    (source,) = sources({"annotations": [{**FLAT, "title": " two\n lines\t" + "x" * 1000}]})
    assert source.title.startswith("two lines x")
    assert len(source.title) == 200


@pytest.mark.parametrize(
    ("item", "image"),
    [
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJDRA=="}}, (4, None)),
        ({"image_url": "data:image/png,abc"}, (3, None)),
        ({"image_url": {"url": "https://a.example/1"}}, (None, "https://a.example/1")),
        ({"image_url": {"url": "file:///etc/passwd"}}, (None, None)),
        ({"image_url": {"url": 1}}, (None, None)),
        ({}, (None, None)),
    ],
)
def test_images_each_shape_gives_type_and_size(item: dict[str, Any], image: Any) -> None:
    size, url = image
    media_type = "image/png" if size else ""
    assert images({"images": [item, "no object"]}) == [Image(media_type, size, url)]


def test_images_unexpected_shapes_give_nothing() -> None:
    assert images({"images": {"url": "https://a.example/"}}) == images({}) == []


def test_source_host_has_no_user_and_password() -> None:
    assert Source("https://user:password@a.example:8443/x", "").host == "a.example:8443"
