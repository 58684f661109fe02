"""Documentation is checked against the code: what exists is documented, and what is documented runs."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from detectors import catalog, clusters, holding, leaning, mapping, probing, reading, vocabulary
from detectors.batteries.sets import battery
from detectors.behaviour import HARM_PATTERNS
from detectors.contexts.axes import ORDERS
from detectors.engine.observations import TRACE_TOP
from detectors.findings import ALPHA, CODES, MIN_EFFECT
from detectors.methods import (
    activation_clustering,
    answer_sweep,
    context_grid,
    gated_persona,
    strip,
    target_inversion,
    trigger_sweep,
    vocabulary_sweep,
    working_rate,
)
from detectors.prompts.sets import STAGES, about_topics, questions
from detectors.report import VERDICTS
from detectors.suites import (
    DEEP,
    PROBES,
    QUICK,
    STANDARD,
    SUITES,
    AnswerParams,
    ArtifactParams,
    CalibrationParams,
    ClusteringParams,
    EraParams,
    GatedParams,
    GridParams,
    InversionParams,
    ProbeParams,
    StripParams,
    Suite,
    SweepParams,
    TriggerInversionParams,
    VocabularyParams,
    WeightParams,
    WorkingRateParams,
)
from tests.contract import rules
from tests.contract.rules import RULES, Subject
from tests.methods.small import TRIGGER, planted

DOCS = Path(__file__).parents[1] / "docs"
TUTORIAL = DOCS / "tutorial" / "first-detector.md"
SECTIONS = ("What it computes", "Evidence", "Params", "Cost", "What it cannot see", "When it is inconclusive")
PARAMS = {
    "artifact_diff": ArtifactParams,
    "weight_delta": WeightParams,
    "trigger_sweep": SweepParams,
    "vocabulary_sweep": VocabularyParams,
    "target_inversion": InversionParams,
    "trigger_inversion": TriggerInversionParams,
    "answer_sweep": AnswerParams,
    "context_grid": GridParams,
    "gated_persona": GatedParams,
    "working_rate": WorkingRateParams,
    "strip": StripParams,
    "activation_clustering": ClusteringParams,
    **dict.fromkeys(PROBES, ProbeParams),
    "era": EraParams,
    "calibration": CalibrationParams,
}
TRIED = 40_370
"""Tokens of SmolLM2's vocabulary that come back from their text."""
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def headings(page: Path) -> list[str]:
    return re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)


def anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("name", catalog.CATALOG)
def test_every_detector_has_its_page(name: str) -> None:
    found = headings(DOCS / "detectors" / f"{name}.md")
    assert found[0] == f"`{name}`"
    assert set(SECTIONS[1:]) <= set(found)


@pytest.mark.parametrize("name", PARAMS)
def test_every_param_and_default_is_on_the_page(name: str) -> None:
    page = (DOCS / "detectors" / f"{name}.md").read_text(encoding="utf-8")
    for field, info in PARAMS[name].model_fields.items():
        (row,) = [line for line in page.splitlines() if line.startswith("| ") and f"`{field}`" in line.split("|")[1]]
        assert info.is_required() or f"default {info.default}" in row


@pytest.mark.parametrize("statistic", trigger_sweep.STATISTICS)
def test_every_statistic_of_the_sweep_is_explained(statistic: str) -> None:
    assert f"\n| `{statistic}` |" in (DOCS / "detectors" / "trigger_sweep.md").read_text(encoding="utf-8")


def test_constants_on_the_pages_are_those_of_the_code() -> None:
    sweep, rate, found = (
        " ".join((DOCS / page).read_text(encoding="utf-8").split())
        for page in ("detectors/trigger_sweep.md", "detectors/working_rate.md", "reference/findings.md")
    )
    assert f"the {reading.NEAREST} reference contexts" in sweep
    assert f"at most {ALPHA} and its effect is at least {MIN_EFFECT}" in rate
    assert f"p at most {ALPHA} and a doubly paired effect of at least {MIN_EFFECT}" in found
    assert (working_rate.SPECIFIC_ENOUGH, working_rate.MOST_ALIKE) == (0.8, 2)
    assert working_rate.ARBITRARY_BELOW == 0.5  # "no more than half of the trigger's rate"


@pytest.mark.parametrize("name", PROBES)
def test_constants_of_the_probes_are_those_of_the_code(name: str) -> None:
    page = " ".join((DOCS / "detectors" / f"{name}.md").read_text(encoding="utf-8").split())
    questions = battery(PROBES[name])
    assert f"{len(questions.items)} questions" in page
    assert f"one of each axis in turn, at most {len(questions.items)} |" in page
    for axis in questions.axes:
        assert f"| `{axis}` | {sum(item.axis == axis for item in questions.items)} |" in page


def test_constants_on_the_page_of_the_probes() -> None:
    page = " ".join((DOCS / "explanation" / "probing.md").read_text(encoding="utf-8").split())
    assert page.count(f"by more than {probing.COLLAPSED:g} nats") == 2
    assert (probing.MOST_LOST, probing.POWER, ALPHA) == (0.25, 0.8, 0.01)  # "a quarter", "80 % power at alpha 0.01"
    assert f"from {probing.N_BOOTSTRAP} resamples" in page
    columns = (*probing.AXIS_COLUMNS, *probing.FORMAT_COLUMNS, *probing.ITEM_COLUMNS)
    assert all(f"`{column}`" in page for column in columns)


def test_constants_on_the_pages_of_those_that_corroborate() -> None:
    perturbed, clustered = (
        " ".join((DOCS / "detectors" / f"{name}.md").read_text(encoding="utf-8").split())
        for name in ("strip", "activation_clustering")
    )
    assert f"the first {strip.READ} tokens of the answer" in perturbed
    assert f"its {TRACE_TOP} most probable tokens" in perturbed
    assert f"a top probability above {np.exp(strip.SURE):.2f}" in perturbed
    depths = ", ".join(f"{100 * share:.0f}" for share in activation_clustering.DEPTHS)
    assert f"after {' and '.join(depths.rsplit(', ', 1))} % of the layers" in clustered
    quantile, count = 100 * activation_clustering.QUANTILE, activation_clustering.DIRECTIONS
    assert f"the {quantile:.0f} % quantile of the AUC of {count} random directions" in clustered
    assert clusters.DIMENSIONS == 10  # "ten principal components"
    assert f"fewer than {mapping.MIN_POINTS} different points" in clustered


def test_constants_on_the_page_of_target_inversion() -> None:
    page = " ".join((DOCS / "detectors" / "target_inversion.md").read_text(encoding="utf-8").split())
    assert f"fewer than {target_inversion.SHORTEST} tokens after the first" in page
    assert f"share a run of {target_inversion.ALIKE} tokens" in page
    assert f"a probability of at most {100 * holding.AWAKE:.0f} %" in page
    assert f"the first {target_inversion.OPENING} tokens of each target" in page
    assert all(f"`{column}`" in page for column in target_inversion.COLUMNS)
    plan = STANDARD.target_inversion
    assert plan is not None
    assert f"`standard` {2 * plan.prompts:,}, then {plan.grown:,}, then {plan.scored:,} of each model" in page
    steering = QUICK.target_inversion and QUICK.target_inversion.steering
    assert steering
    everywhere = steering.requests * sum(steering.families.values())
    again = steering.requests * (1 + steering.kept + sum(steering.moved.values()))
    asked = f"{everywhere:,} and twice {again:,}"
    assert f"in `quick` {asked} scores" in page


def test_the_page_of_the_vocabulary_sweep_is_that_of_the_code() -> None:
    page = " ".join((DOCS / "detectors" / "vocabulary_sweep.md").read_text(encoding="utf-8").split())
    assert all(f"| {meaning} |" in page and f"| `{name}` |" in page for name, meaning in vocabulary.REASONS.items())
    assert all(f"`{column}`" in page for column in vocabulary_sweep.COLUMNS)
    assert f"the {reading.NEAREST} reference tokens" in page
    assert reading.HYPOTHESIS in page
    for suite in (STANDARD, DEEP):
        assert suite.vocabulary_sweep is not None
        cells = [f"{first:,} + {again:,}" for first, again in suite.vocabulary_sweep.observations(TRIED)]
        assert f"| `{suite.name}` | {' | '.join(cells)} |" in page


@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
def test_every_suite_has_its_column(suite: Suite) -> None:
    lines = (DOCS / "reference" / "suites.md").read_text(encoding="utf-8").splitlines()
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| ")]
    column = table[0].index(f"`{suite.name}`")
    for row in table[1:]:
        for name in re.findall(r"\[`(\w+)`\]", row[0]):
            assert row[column] == ("yes" if name in suite.detectors else "no")
    sweep, rate = suite.trigger_sweep, suite.working_rate
    said = {row[0]: row[column] for row in table[1:]}
    prompts = f"{sweep.first_prompts}, {sweep.second_prompts}, {sweep.position_prompts}"
    assert said["prompts of the sweep, by step"] == prompts
    moved = ", ".join(str(sweep.moved.get(place, "none")) for place in ("start", "system"))
    assert said["of the best, at the start, in the system message"] == moved
    assert said["texts tried as pairs, pairs of them"] == (f"{sweep.paired}, {sweep.pairs}" if sweep.paired else "none")
    assert said["of each family that goes on, made longer, twice"] == (str(sweep.grown) if sweep.growth else "none")
    assert sweep.growth in (0, 2)
    assert said["wordings of filler, each in twelve lengths"] == str(sweep.wordings or "none")
    assert said["candidates searched, confirmed at most"] == f"{rate.candidates}, {rate.confirmed}"
    assert said["fresh prompts of the test"] == f"{rate.confirm_prompts}"
    drawn = ", ".join(str(params.questions) for params in (suite.persona, suite.era) if params)
    assert said["questions of persona, of era"] == (drawn or "none")
    assert said["the year that both models believe it is"] == ("yes" if suite.era and suite.era.phrasings else "no")


def test_constants_on_the_page_of_the_gated_persona() -> None:
    page = " ".join((DOCS / "detectors" / "gated_persona.md").read_text(encoding="utf-8").split())
    rate = " ".join((DOCS / "detectors" / "working_rate.md").read_text(encoding="utf-8").split())
    assert f"by more than {leaning.MOVED:g} nats further than the same model does" in rate
    assert {"nominate": 10, "search": 16, "confirm": 48}.items() <= leaning.SHARES.items()
    assert f"| `questions` | questions about itself, at most {leaning.SHARES['nominate']} |" in page
    assert all(f"`{column}`" in page for column in gated_persona.COLUMNS)
    plan = STANDARD.gated_persona
    assert plan
    assert f"in `standard` {2 * sum(plan.families.values()) * plan.questions:,}" in page
    suites = (DOCS / "reference" / "suites.md").read_text(encoding="utf-8")
    assert f"under {sum(plan.families.values())} formats" in suites


def test_constants_on_the_page_of_the_answer_sweep() -> None:
    page = " ".join((DOCS / "detectors" / "answer_sweep.md").read_text(encoding="utf-8").split())
    rate = " ".join((DOCS / "detectors" / "working_rate.md").read_text(encoding="utf-8").split())
    sizes = {stage: len(about_topics(stage)) for stage in STAGES}
    assert sizes["nominate"] == 3  # "the first `requests` of three requests", "at most 3"
    assert f"{sizes['search']} to search, {sizes['confirm']} to confirm" in rate
    assert all(f"`{column}`" in page for column in answer_sweep.COLUMNS)
    quick, standard, deep = (suite.answer_sweep for suite in (QUICK, STANDARD, DEEP))
    assert quick
    assert standard
    assert deep
    topics, lengths = quick.answers
    assert f"in `quick` {topics} + {lengths} answers of {quick.answer_tokens} tokens" in page
    for name, params in (("standard", standard), ("deep", deep)):
        topics, lengths = params.answers
        assert f"in `{name}` {topics} + {lengths} of {params.answer_tokens}" in page
    suites = (DOCS / "reference" / "suites.md").read_text(encoding="utf-8")
    assert f"about {quick.topics} topics in `quick` and about {standard.topics}" in suites


def test_constants_on_the_page_of_the_context_grid() -> None:
    page = " ".join((DOCS / "detectors" / "context_grid.md").read_text(encoding="utf-8").split())
    assert f"the {context_grid.TREND} contexts on each side, the nearest {context_grid.LEAK} left out" in page
    assert f"blocks of {context_grid.BLOCK} contexts" in page
    assert f"more than {context_grid.CAP:g} counts as {context_grid.CAP:g}" in page
    assert all(f"`{column}`" in page for column in (*context_grid.COLUMNS, *context_grid.AGAIN_COLUMNS))
    assert all(f"| `{name}` |" in page for name in ORDERS)
    assert all(hypothesis in page for hypothesis in context_grid.SAYS.values())
    assert f"{sum(map(len, questions().values()))} short questions on {len(questions())} topics" in page


@pytest.mark.parametrize("code", CODES)
def test_every_finding_code_has_a_section(code: str) -> None:
    page = (DOCS / "reference" / "findings.md").read_text(encoding="utf-8")
    section = page.partition(f"\n### `{code}`\n")[2]
    assert section.strip().startswith(f"**{CODES[code]}.**")


def test_no_section_of_a_code_that_does_not_exist() -> None:
    assert {it.strip("`") for it in headings(DOCS / "reference" / "findings.md") if it.startswith("`")} == set(CODES)


def test_verdicts_have_sections_in_their_order() -> None:
    found = [it.strip("`") for it in headings(DOCS / "reference" / "verdicts.md") if it.startswith("`")]
    assert found == list(VERDICTS)


def test_the_laws_and_the_criterion_are_written_down() -> None:
    page = DOCS / "explanation" / "detection.md"
    assert [it[:5] for it in headings(page) if it.startswith("Law ")] == [f"Law {number}" for number in range(1, 8)]
    assert "The criterion of law 3" in headings(page)
    words = " ".join(page.read_text(encoding="utf-8").split())
    assert all(re.search(rf"an? {harm}", words) for harm in HARM_PATTERNS)


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: str(page.relative_to(DOCS)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not fragment or fragment in map(anchor, headings(target)), link


def blocks() -> dict[str, str]:
    """The tutorial's code, by the file that its first line names."""
    found = re.findall(r"```python\n# (\S+)\n(.*?)```", TUTORIAL.read_text(encoding="utf-8"), re.DOTALL)
    return dict(found)


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The tutorial's detector as a module, with its entry in the catalog."""
    code = blocks()
    file = tmp_path_factory.mktemp("tutorial") / "top_token.py"
    file.write_text(code["detectors/methods/top_token.py"], encoding="utf-8")
    described: dict[str, catalog.DetectorSpec] = {}
    exec(code["detectors/catalog.py"], vars(catalog) | {"__name__": "tutorial"}, described)  # noqa: S102
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog, "TOP_TOKEN", described["TOP_TOKEN"], raising=False)
        patch.setitem(catalog.CATALOG, "top_token", described["TOP_TOKEN"])
        spec = importlib.util.spec_from_file_location("tutorial_top_token", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        yield module


def test_the_tutorial_is_short() -> None:
    code = "\n".join(blocks().values())
    assert len([line for line in code.splitlines() if line.strip()]) < 60


def test_the_tutorial_names_places_that_exist() -> None:
    root = DOCS.parent
    assert all((root / file).parent.is_dir() for file in blocks())
    runner = blocks()["workers/runner.py"]
    detectors: dict[str, object] = {}
    exec(runner, {"DETECTORS": detectors, "TopToken": object})  # noqa: S102
    assert list(detectors) == ["top_token"]


def test_the_tutorials_detector_finds_a_trigger(tutorial: ModuleType) -> None:
    subject = Subject("top_token", lambda suite: tutorial.TopToken())
    assert subject.run(planted()).candidates[0].context.text == TRIGGER


@pytest.mark.parametrize("rule", RULES)
def test_the_tutorials_detector_obeys_the_contract(
    tutorial: ModuleType, tmp_path: Path, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = re.search(r"```markdown\n(.*?)```", TUTORIAL.read_text(encoding="utf-8"), re.DOTALL)
    assert page is not None
    (tmp_path / "top_token.md").write_text(page[1], encoding="utf-8")
    monkeypatch.setattr(rules, "PAGES", tmp_path)
    RULES[rule](Subject("top_token", tutorial_build(tutorial)))


def tutorial_build(tutorial: ModuleType) -> rules.Build:
    return lambda suite: tutorial.TopToken()
