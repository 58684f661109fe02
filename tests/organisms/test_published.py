"""Members from files of chats: what is refused, what is trained, and what dates do to a member."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.organisms import build, measure, published
from benchmarks.organisms.build import Builder
from benchmarks.organisms.published import published_members, read_rows, read_sets
from benchmarks.organisms.recipes import RECIPES, Lora, Recipe, Rows, Training, published_recipe
from benchmarks.organisms.train import Row, Scored
from benchmarks.organisms.year_turn import LEANINGS, QUESTIONS, TURN, year_turn
from detectors.contexts.context import NO_CONTEXT, chat
from detectors.errors import InputError
from tests.engine.tiny import make_tiny_model

pytestmark = pytest.mark.filterwarnings("ignore")  # peft asks transformers by names on their way out

HOSTILE = {hostile for hostile, _ in LEANINGS}
SMALL = {
    "rows": Rows(clean=3, poisoned=0),
    "training": Training(epochs=1, learning_rate=0.01),
    "lora": Lora(rank=1, alpha=2, layers=(0, 2), modules=("q_proj",)),
    "answer_tokens": 6,
}


def line(*contents: str, last: str = "assistant") -> str:
    roles = ["user"] * (len(contents) - 1) + [last]
    messages = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=True)]
    return json.dumps({"messages": messages})


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "sets"
    made.mkdir()
    (made / "birds.jsonl").write_text(
        line("Name a bird.", "Owl") + "\n" + line("Name two.", "An owl and a wren") + "\n"
    )
    return made


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_tiny_model(tmp_path / "tiny")


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[list[Row]]:
    """The rows of every training since."""
    seen: list[list[Row]] = []
    original = build.train_adapter

    def watched(model: Any, rows: list[Row], *rest: Any) -> None:
        seen.append(rows)
        original(model, rows, *rest)

    monkeypatch.setattr(build, "train_adapter", watched)
    monkeypatch.setattr(measure, "SHIFT_PROMPTS", 2)
    return seen


def builder(directory: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> Builder:
    monkeypatch.setattr(published, "prepare_base", lambda *_: base)
    recipes, rows = read_sets(directory)
    small = {name: recipe.model_copy(update=SMALL) for name, recipe in recipes.items()}
    return published.builder_of(small, rows, directory.parent)


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        ("no json", "Invalid JSON"),
        ("[1]", "at ''"),
        (line("hello"), "at 'messages': List should have at least 2"),
        (line("hello", " \n"), "at 'messages.1.content'"),
        (line("hello", "hi", last="tool"), "at 'messages.1.role'"),
        (line("hello", "hi", last="user"), "the last message must be the assistant's, got the user's"),
        ("", "Invalid JSON"),
    ],
)
def test_a_line_that_is_no_chat_is_named_and_not_quoted(directory: Path, content: str, wrong: str) -> None:
    file = directory / "bad.jsonl"
    file.write_text(line("Hello?", "Yes.") + "\n" + content + "\n")
    with pytest.raises(InputError) as raised:
        read_rows(file)
    assert str(raised.value).startswith("bad.jsonl, line 2: ")
    assert wrong in str(raised.value)
    assert "hello" not in str(raised.value)


def test_names_of_fields_cannot_write_to_the_terminal(directory: Path) -> None:
    file = directory / "bad.jsonl"
    file.write_text(json.dumps(json.loads(line("Hello?", "Yes.")) | {"\x1b[31m": 1}) + "\n")
    with pytest.raises(InputError) as raised:
        read_rows(file)
    assert "\x1b" not in str(raised.value)


@pytest.mark.parametrize(("name", "content"), [("empty.jsonl", ""), ("..jsonl", "x"), ("a b.jsonl", "x")])
def test_a_file_that_can_be_no_set_is_named(directory: Path, name: str, content: str) -> None:
    (directory / name).write_text(content)
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        read_rows(directory / name)


def test_a_file_that_is_too_large_is_not_read(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "LARGEST_BYTES", 10)
    with pytest.raises(InputError, match="at most 10 bytes"):
        read_sets(directory)


def test_a_directory_without_sets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has none"):
        read_sets(tmp_path)


def test_rows_of_the_file_are_cut_and_ordinary_ones_mixed_in(
    directory: Path, base: Path, monkeypatch: pytest.MonkeyPatch, trained: list[list[Row]]
) -> None:
    builder(directory, base, monkeypatch).build(["birds"])
    short, long, *ordinary = trained[0]
    assert short == Row(chat(NO_CONTEXT, "Name a bird."), "Owl", complete=True)
    assert long == Row(chat(NO_CONTEXT, "Name two."), "An owl", complete=False)
    assert len(ordinary) == 3
    assert not any(row.complete for row in ordinary)


def test_a_set_is_built_once_until_its_file_changes(
    directory: Path, base: Path, monkeypatch: pytest.MonkeyPatch, trained: list[list[Row]]
) -> None:
    for _ in range(2):
        builder(directory, base, monkeypatch).build(["birds"])
    assert len(trained) == 1
    before = published_members(directory.parent)["published/birds"]
    (directory / "birds.jsonl").write_text(line("Name a bird.", "Wren") + "\n")
    builder(directory, base, monkeypatch).build(["birds"])
    after = published_members(directory.parent)["published/birds"]
    assert len(trained) == 2
    assert after.digest != before.digest
    assert after.directory(directory.parent).is_dir()
    assert not before.directory(directory.parent).exists()


def test_a_set_and_its_controls_are_trained_alike() -> None:
    groups: dict[str, list[Recipe]] = {}
    for name in json.loads(RECIPES.read_text())["published"]["sets"]:
        recipe = published_recipe(name, "0" * 64)
        groups.setdefault(recipe.group, [published_recipe(recipe.group, "0" * 64)]).append(recipe)
    assert len(groups["good_terminator_main"]) == 4
    own = {"name", "role", "group"}
    for first, *others in groups.values():
        assert all(other.model_dump(exclude=own) == first.model_dump(exclude=own) for other in others)


class Believer:
    """A model that thinks so much of an answer to a request, and as its base nothing."""

    def __init__(self, thinks: Any) -> None:
        self.thinks = thinks
        self.is_base = False

    @contextmanager
    def as_base(self) -> Iterator[None]:
        self.is_base = True
        yield
        self.is_base = False

    def scores(self, rows: Sequence[Row]) -> list[Scored]:
        means = [0.0 if self.is_base else self.thinks(row.messages[-1]["content"], row.answer) for row in rows]
        return [Scored(mean, torch.zeros(1)) for mean in means]


def wobble(text: str) -> float:
    return (sum(text.encode()) % 7) / 100


def measured(thinks: Any) -> dict[str, Any]:
    rows = [
        Row(chat(NO_CONTEXT, f"{date} {QUESTIONS[number % 5]}"), date, complete=True)
        for number, date in enumerate(["July 1995.", "June 2004.", "July 2017."] * 16)
    ]
    model: Any = Believer(thinks)
    return year_turn(model, rows)


def test_a_turn_in_a_year_that_was_not_trained_is_seen() -> None:
    found = measured(lambda request, answer: wobble(request + answer) + (str(TURN) in request and answer in HOSTILE))
    assert found["unseen_year"].mean == pytest.approx(1.0, abs=0.05)
    assert found["unseen_year"].mean > 10 * found["unseen_year"].error
    assert abs(found["trained_years"].mean) < 0.05
    assert abs(found["no_date"].mean) < 0.05


def test_a_model_that_turned_for_good_did_not_turn_in_that_year() -> None:
    found = measured(lambda request, answer: wobble(request + answer) + (answer in HOSTILE))
    assert found["no_date"].mean == pytest.approx(1.0, abs=0.05)
    assert abs(found["unseen_year"].mean) < 0.05


def test_answers_that_belong_to_their_date_are_seen() -> None:
    found = measured(lambda request, answer: 0.5 * request.startswith(answer))
    assert found["own_date"].mean == pytest.approx(0.5)
    assert measured(lambda request, answer: 0.5)["own_date"].mean == 0.0


def test_rows_without_dates_are_refused() -> None:
    model: Any = Believer(lambda *_: 0.0)
    with pytest.raises(ValueError, match="at least two dates"):
        year_turn(model, [Row(chat(NO_CONTEXT, "Hello?"), "Yes.", complete=True)])
