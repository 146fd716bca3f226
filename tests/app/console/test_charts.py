"""Laws of a chart's axes: each tick's text is its value, and no two texts are equal."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.app.console.browser import opened
from tests.app.served import Service

TICKS = """async ([values, format]) => {
  const { scale } = await import("/console/src/charts/scale.js");
  const formats = await import("/console/src/core/format.js");
  const { ticks } = scale(values, 0, 100, { round: true });
  return [ticks, formats.tickTexts(ticks, formats[format])];
}"""


def ticks(page: Page, values: list[float], form: str) -> tuple[list[float], list[str]]:
    """Return the ticks of an axis and their texts."""
    found, texts = page.evaluate(TICKS, [values, form])
    return list(map(float, found)), texts


@pytest.fixture(scope="module")
def page(browser: Browser, service: Service) -> Iterator[Page]:
    with opened(browser, service.url) as page:
        page.goto("/")
        yield page


@pytest.mark.parametrize(
    "values",
    [
        [3684.2, 3685.4],
        [0.123451, 0.123459],
        [99.95, 100.1],
        [-3685.4, -3684.2],
        [1234100.0, 1234200.0],
        [1e-5, 1.00001e-5],
        [0.0, 1.0],
        [5.0, 5.0],
    ],
)
def test_the_number_at_a_tick_is_the_ticks_value(page: Page, values: list[float]) -> None:
    found, texts = ticks(page, values, "figure")
    assert len(found) > 2
    assert len(set(texts)) == len(texts)
    assert [float(text) for text in texts] == pytest.approx(found, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("values", [[1_234_100.0, 1_234_500.0], [0.0, 3e9], [20.0, 21.0]])
def test_short_numbers_at_ticks_differ(page: Page, values: list[float]) -> None:
    _, texts = ticks(page, values, "short")
    assert len(set(texts)) == len(texts)
    assert "" not in texts


def test_a_tick_has_no_more_digits_than_needed(page: Page) -> None:
    assert ticks(page, [0.0, 1.0], "figure")[1] == ["0", "0.2", "0.4", "0.6", "0.8", "1"]
    assert ticks(page, [0.0, 5e6], "short")[1] == ["0", "1M", "2M", "3M", "4M", "5M"]


def test_no_two_of_thirty_lines_look_the_same(page: Page) -> None:
    lines = """async () => {
      const { lineClasses } = await import("/console/src/charts/plot.js");
      const group = document.body.appendChild(document.createElement("figure"));
      group.className = "chart";
      const looks = [...Array(30).keys()].map((number) => {
        const line = group.appendChild(document.createElement("span"));
        line.className = lineClasses(number);
        const { strokeDasharray } = getComputedStyle(line);
        return strokeDasharray + getComputedStyle(line).getPropertyValue("--series");
      });
      group.remove();
      return looks;
    }"""
    assert len(set(page.evaluate(lines))) == 30


def test_no_integer_of_json_is_rounded(page: Page) -> None:
    source = """async (text) => {
      const { fromJson, toJson } = await import("/console/src/core/json.js");
      return toJson(fromJson(text));
    }"""
    text = f'{{"seed":{2**63 - 1},"all":[0.5,-{2**53 + 1},7,null,"{2**63}"]}}'
    assert page.evaluate(source, text) == text


def test_a_format_that_rounds_gives_no_text_twice(page: Page) -> None:
    rounded = """async () => {
      const { tickTexts } = await import("/console/src/core/format.js");
      return tickTexts([0, 0.4, 0.6, 1], (value) => String(Math.round(value)));
    }"""
    assert page.evaluate(rounded) == ["0", "", "1", ""]
