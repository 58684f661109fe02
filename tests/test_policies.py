"""Policies as YAML: what is read, what is refused, and what the refusal says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from app.core.policies import BUILTIN, LIMIT_BYTES, builtin_policy, dump_policy, find_policy, parse_policy
from detectors.catalog import CATALOG
from detectors.errors import PolicyError
from detectors.report import GATE_OUTCOMES, Policy
from detectors.suites import SUITES

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "policies.md"
SEVERITIES = ("critical", "high", "medium", "low", "info")

severities = st.lists(st.sampled_from(SEVERITIES), max_size=3).map(tuple)
ladders = st.lists(st.sampled_from(GATE_OUTCOMES), min_size=3, max_size=3).map(
    lambda outcomes: dict(
        zip(("no_evidence", "suspicious", "strong_evidence"), sorted(outcomes, key=GATE_OUTCOMES.index), strict=True)
    )
)
policies = st.builds(
    Policy,
    name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True),
    strong=severities,
    suspicious=severities,
    min_confidence=st.floats(0, 1),
    gate=st.builds(
        lambda ladder, inconclusive: {**ladder, "inconclusive": inconclusive},
        ladders,
        st.sampled_from(["inconclusive", "fail"]),
    ),
    max_age_days=st.integers(1, 3_650),
    required_suites=st.lists(st.sampled_from(list(SUITES)), min_size=1, max_size=2).map(tuple),
    required_detectors=st.lists(st.sampled_from(list(CATALOG)), max_size=3).map(tuple),
    min_scanner_version=st.sampled_from([None, "0.1", "1.0.0rc1", "2"]),
)


@given(policies)
@example(Policy(name="no", min_confidence=5e-324))
@example(Policy(name="1e3"))
@example(Policy(name="2026-01-01", min_scanner_version="1"))
def test_what_is_dumped_is_read_again(policy: Policy) -> None:
    assert parse_policy(dump_policy(policy)) == policy


def test_a_dump_names_every_rule() -> None:
    assert list(yaml.safe_load(dump_policy(Policy()))) == list(Policy.model_fields)


def test_rules_that_are_left_out_keep_their_defaults() -> None:
    policy = parse_policy("name: team-a\ngate: {suspicious: warn}\n")
    assert policy == Policy(name="team-a", gate=Policy().gate | {"suspicious": "warn"})


# What comes with Touchstone.


def test_the_default_file_is_the_default_policy() -> None:
    assert builtin_policy("default") == Policy()


@pytest.mark.parametrize("name", BUILTIN)
def test_a_built_in_policy_has_the_name_of_its_file(name: str) -> None:
    assert builtin_policy(name).name == name


def test_strict_is_stricter() -> None:
    strict, default = builtin_policy("strict"), Policy()
    assert set(strict.strong) == {*default.strong, "medium"}
    assert strict.max_age_days == 7
    assert "warn" not in strict.gate.values()
    assert all(
        GATE_OUTCOMES.index(strict.gate[verdict]) >= GATE_OUTCOMES.index(default.gate[verdict])
        for verdict in strict.gate
    )


def test_every_file_is_listed() -> None:
    folder = Path(__file__).parents[1] / "app" / "core" / "builtin_policies"
    assert {file.stem for file in folder.iterdir()} == set(BUILTIN)


def test_a_policy_is_found_by_name_or_by_path(tmp_path: Path) -> None:
    file = tmp_path / "team.yaml"
    file.write_text("name: team-a", encoding="utf-8")
    assert find_policy("strict") == builtin_policy("strict")
    assert find_policy(str(file)).name == "team-a"


@pytest.mark.parametrize(
    ("given_name", "says"),
    [
        ("strikt", "default or strict or a readable file.*got strikt: No such file.*did you mean `strict`"),
        ("no\x00where", r"got no\\x00where: embedded null byte"),
        (".", "Is a directory"),
    ],
)
def test_a_policy_that_is_nowhere_is_explained(given_name: str, says: str) -> None:
    with pytest.raises(PolicyError, match=says):
        find_policy(given_name)


def test_a_file_that_is_no_text_or_too_long_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_bytes(b"name: \xff\xfe")
    with pytest.raises(PolicyError, match=r"UTF-8 text.*can't decode byte 0xff"):
        find_policy(str(file))
    file.write_bytes(b"#" * 10 * LIMIT_BYTES)
    with pytest.raises(PolicyError, match="at most 65,536 bytes"):
        find_policy(str(file))


# What is wrong, and what is said about it.


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "a mapping of rules to values, got None"),
        ("[1, 2]", r"a mapping of rules to values, got \[1, 2\]"),
        ("strong: [high]", "must have a `name`, got none"),
        ("name: x\nmax_age: 3", "`max_age` is no rule; did you mean `max_age_days`.; rules are name, strong, "),
        ("name: x\nzzz: 3", "`zzz` is no rule; rules are name, strong, "),
        ("name: x\nmax_age_days: soon", "`max_age_days` must be a valid integer, got 'soon'"),
        ("name: x\nmax_age_days: '30'", "`max_age_days` must be a valid integer, got '30'"),
        ("name: x\nmax_age_days: 0", "`max_age_days` must be greater than or equal to 1, got 0"),
        ("name: x\nmax_age_days: yes", "`max_age_days` must be a valid integer, got True"),
        ("name: x\nmin_confidence: .nan", "`min_confidence` must be .* got nan"),
        ("name: x\nmin_confidence: 1.5", "`min_confidence` must be less than or equal to 1, got 1.5"),
        ("name: x\nstrong: high", "`strong` must be a list, got 'high'"),
        ("name: x\nstrong: [hgh]", "`strong.0` must be 'critical', 'high', .*, got 'hgh'"),
        ("name: no", r"`name` must be text \(put it in quotes\), got False"),
        ("name: 2026-01-01", "`name` must match pattern .*, got 'datetime.date"),
        ("name: a b", "`name` must match pattern .*, got 'a b'"),
        ("name: x\nmin_scanner_version: 0.1", r"must be text \(put it in quotes\), got 0.1"),
        ("name: x\nmin_scanner_version: new", "must be a version such as 0.1.0, got 'new'"),
        ("name: x\ngate: warn", "`gate` must be a mapping, got 'warn'"),
        ("name: x\ngate: {suspicius: warn}", "`gate.suspicius` must be 'strong_evidence', 'suspicious', "),
        ("name: x\ngate: {suspicious: ok}", "`gate.suspicious` must be 'pass', 'warn', .*, got 'ok'"),
        ("name: x\ngate: {inconclusive: pass}", "`gate` must lead inconclusive to inconclusive or fail, got pass"),
        ("name: x\ngate: {inconclusive: warn}", "`gate` must lead inconclusive to inconclusive or fail, got warn"),
        ("name: x\ngate: {no_evidence: warn, suspicious: pass}", "`gate` must not lead a graver verdict to a milder"),
        ("name: x\nrequired_suites: []", "`required_suites` must have at least 1 item"),
        (
            "name: x\nrequired_suites: [quik]",
            "`required_suites` must name some of smoke, quick, standard, deep; got 'quik'",
        ),
        ("name: x\nrequired_detectors: [strp]", "`required_detectors` must name some of .*strip.*; got 'strp'"),
        ("name: x\nstrong: [a, b, c, d, e, f, g]", "`strong.4` .*; and 2 more$"),
    ],
)
def test_what_is_wrong_is_named_with_what_was_wanted(text: str, says: str) -> None:
    with pytest.raises(PolicyError, match=says):
        parse_policy(text)


BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (BOMB, "no anchor, alias or tag, got one in line 1"),
        ("name: x\nstrong: *a", "no anchor, alias or tag, got one in line 2"),
        ("name: &a x", "no anchor, alias or tag"),
        ("name: !!python/object/apply:os.system ['true']", "no anchor, alias or tag"),
        ("!!set {name}", "no anchor, alias or tag"),
        ("name: x\nname: y", "`name` must be given once, got it again in line 2"),
        ("name: x\ngate: {suspicious: warn, suspicious: fail}", "`suspicious` must be given once"),
        ("name: x\n<<: {strong: []}", "plain text, got another kind of key in line 2"),
        ("name: x\n1: y", "plain text, got another kind of key in line 2"),
        ("? [a]\n: b", "plain text, got another kind of key in line 1"),
        ("name: x\n---\nname: y", "one YAML document, got in line 2: but found another document"),
        ("name: [x", "one YAML document, got in line 1: "),
        ("name: \x00", "one YAML document, got: unacceptable character"),
        ("name: \ud800", "one YAML document"),
        ("name: 0x_", "one YAML document, got: invalid literal"),
        ("name: 2026-99-99", "one YAML document, got: month must be in 1..12"),
        ("name: " + "9" * 50_000, "one YAML document, got: Exceeds the limit"),
        ("[" * 60_000, "at most 8 deep"),
        ("{a: " * 9, "at most 8 deep"),
        ("- " * 20_000, "at most 8 deep"),
        ("#" * (LIMIT_BYTES + 1), "at most 65,536 bytes, got 65,537"),
        ("#" + "é" * (LIMIT_BYTES // 2), "at most 65,536 bytes, got 65,537"),
    ],
    ids=lambda value: str(value)[:30].encode("unicode_escape").decode(),
)
def test_hostile_yaml_is_refused(text: str, says: str) -> None:
    with pytest.raises(PolicyError, match=says):
        parse_policy(text)


@given(
    st.one_of(
        st.text(),
        st.text("{}[]&*!|>-?:,#%@`'\"\\ \n\tabn0.~<=_"),
        st.dictionaries(
            st.sampled_from([*Policy.model_fields, "max_age"]),
            st.recursive(
                st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.dates()),
                lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
                max_leaves=6,
            ),
        ).map(lambda rules: yaml.safe_dump({"name": "x"} | rules)),
    )
)
def test_whatever_is_given_ends_in_a_policy_or_one_explained_line(text: str) -> None:
    said = refusal(text)
    assert len(said) < 2_000
    assert said.isprintable()


def refusal(text: str) -> str:
    """What is said against a policy; nothing where it is taken."""
    try:
        parse_policy(text)
    except PolicyError as error:
        return str(error)
    return ""


# The page.


def examples() -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_examples_of_the_page_are_policies() -> None:
    whole, short = map(parse_policy, examples())
    assert set(yaml.safe_load(examples()[0])) == set(Policy.model_fields)
    assert whole.name != short.name


def row(name: str, section: str) -> list[str]:
    """The cells of the one row of a section's table that starts with `name`."""
    lines = PAGE.read_text(encoding="utf-8").partition(f"\n## {section}\n")[2].partition("\n## ")[0].splitlines()
    (found,) = [line for line in lines if line.startswith(f"| `{name}` |")]
    return [cell.strip() for cell in found.split("|")]


@pytest.mark.parametrize("rule", Policy.model_fields)
def test_every_rule_and_its_default_are_on_the_page(rule: str) -> None:
    default: Any = getattr(Policy(), rule)
    said = ", ".join(default) if isinstance(default, tuple) else str(default or "none")
    said = {"gate": "see below", "min_confidence": "0.0"}.get(rule, said or "none")
    assert row(rule, "Rules")[2] == said


@pytest.mark.parametrize(("column", "name"), list(enumerate(BUILTIN, start=2)))
def test_the_gates_of_the_built_in_policies_are_on_the_page(column: int, name: str) -> None:
    section = "What a verdict means at the gate"
    gate = builtin_policy(name).gate
    assert f"| verdict | {' | '.join(f'`{one}`' for one in BUILTIN)} |" in PAGE.read_text(encoding="utf-8")
    assert {verdict: row(verdict, section)[column] for verdict in gate} == gate
