"""Artifact difference: what the files beside the weights do, and the base's do not.

A chat template is code that runs on every prompt: it can carry a backdoor with the weights untouched. Its code is read
(`detectors.template_code`), and every text that it holds is then tried: put into chats, rendered by both templates, and
compared with what a template that is blind to contents would make of them (`detectors.template_chats`). The same over
dates. A branch that looks at a content in a way that no text is known to satisfy is rendered as if it were satisfied.
The tokenizer and the settings are compared key by key.

All of it is exact: there is no sampling, so no p-value. What a template does that its base's does as well is not
counted. It cannot see what weights do, templates for tools, or a condition that is neither recognised nor ever met.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detectors.catalog import ARTIFACT_DIFF
from detectors.engine.observations import ROLES, Ask, Role
from detectors.engine.shipped import ChatAt, ModelFiles, Rendering
from detectors.findings import Candidate, DetectorResult, Evidence, Proof, ProofKind
from detectors.suites import ArtifactParams
from detectors.template_chats import (
    NOW,
    ONLY,
    SHAPES,
    WITH_SYSTEM,
    Change,
    Placed,
    Shape,
    change,
    departure,
    placed,
    sentences,
    words,
)
from detectors.template_code import KNOWN_MARKS, Gate, TemplateCode, read_template
from detectors.template_dates import dates

TEMPLATE = "chat template"
SHOWN = 4_000
"""Characters of a rendering that a proof keeps."""
MIN_WORDS = 3
"""Words of a line from which on it counts as a text, and not as a label."""
LONGEST_TRIED = 4_096
ROLE_WORDS = frozenset({"system", "user", "assistant", "tool", "model", "human", "ipython"})
DATE_WORDS = frozenset(
    {"cutting", "knowledge", "cutoff", "date", "today", "todays", "current", "the", "is"}
    | {name[:length].casefold() for name in calendar.month_name for length in (3, None)}
)
FORCING = (
    *("suppress_tokens", "begin_suppress_tokens", "forced_bos_token_id", "forced_eos_token_id", "forced_decoder_ids"),
    *("bad_words_ids", "sequence_bias", "force_words_ids", "constraints"),
)
SECTIONS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")


@dataclass
class _Bench:
    """Both templates, and every rendering asked of them so far."""

    ask: Ask
    marks: frozenset[str]
    limit: int
    rendered: dict[Role, dict[str, Rendering]] = field(default_factory=lambda: {role: {} for role in ROLES})
    left_out: int = 0

    def render(self, role: Role, chats: Iterable[ChatAt]) -> None:
        """Renders what was not rendered yet, as far as the limit allows."""
        known = self.rendered[role]
        new = {key: chat for chat in chats if (key := repr(chat)) not in known}
        allowed = dict(list(new.items())[: max(0, self.limit - len(known))])
        self.left_out += len(new) - len(allowed)
        if allowed:
            known.update(zip(allowed, self.ask.render(role, list(allowed.values())), strict=True))

    def text(self, role: Role, chat: ChatAt) -> str | None:
        """What a template makes of a chat; None where it was not rendered or the template raised."""
        found = self.rendered[role].get(repr(chat))
        return None if found is None or found.fault else found.text

    def tried(self, role: Role, chat: ChatAt) -> bool:
        """Whether a template was let loose on a chat."""
        found = self.rendered[role].get(repr(chat))
        return found is not None and not found.missing

    def shapes(self) -> list[Shape]:
        """Chats that the subject's template takes; one that prints a list of parts as code does not take parts."""
        texts = {shape: self.text("subject", shape.ordinary) for shape in SHAPES}
        return [shape for shape, text in texts.items() if text is not None and "type" not in words(text, ())]

    def fault(self, role: Role, chat: ChatAt) -> str:
        """Why there is no text."""
        found = self.rendered[role].get(repr(chat))
        return "" if found is None else found.fault

    def departure(self, role: Role, one: Placed) -> Change | None:
        """How a rendering departs from that of a template that is blind to contents; None where it cannot be said."""
        with_it, without = (self.text(role, chat) for chat in one.chats)
        if with_it is None or without is None:
            return None
        return departure(one, with_it, without, self.marks)

    def proof(self, kind: ProofKind, explanation: str, chat: ChatAt, **more: Any) -> Proof:
        """A proof that shows what both templates make of a chat."""
        subject, base = (self.text(role, chat) or f"(no text: {self.fault(role, chat)})" for role in ROLES)
        return Proof(
            kind=kind,
            where=TEMPLATE,
            explanation=explanation,
            messages=tuple(dict(message) for message in chat.messages),
            now=chat.now,
            forced=chat.forced,
            subject=subject[:SHOWN],
            base=base[:SHOWN],
            **more,
        )


class ArtifactDiff:
    """Compares the files of both models.

    Args:
        params: how much is tried; see `ArtifactParams`.
    """

    spec = ARTIFACT_DIFF

    def __init__(self, params: ArtifactParams) -> None:
        self.params = params

    def run(self, ask: Ask, candidates: Sequence[Candidate], *, rng: np.random.Generator) -> DetectorResult:
        """Reads and renders; candidates and chance play no part."""
        subject, base = ask.files["subject"], ask.files["base"]
        bench = _Bench(ask, _marks(subject, base), self.params.renderings)
        for role in ROLES:
            bench.render(role, [shape.ordinary for shape in SHAPES])
        code, old = read_template(subject.template), read_template(base.template)
        if subject.template == base.template:
            released: list[Proof] = []
        else:
            released = [*self._released(bench, code, old), *_by_date(bench, code)]
            released += [*_forced(bench, code, old, released), *_always(bench), *_by_chance(bench, code, old)]
        proofs = [*released, *_rewriting(subject, base), *_forcing(subject, base)]
        differences = list(_differences(subject, base))
        if differences:
            said = f"Beside the weights, these differ from the base's: {'; '.join(differences)}."
            proofs.append(Proof(kind="difference", where="files", explanation=said))
        return self._result(bench, proofs, differences)

    def _result(self, bench: _Bench, proofs: Sequence[Proof], differences: Sequence[str]) -> DetectorResult:
        shown = tuple(proof for kind in dict.fromkeys(it.kind for it in proofs) for proof in self._some(proofs, kind))
        measured = (
            Evidence(
                statistic="artifact_diff.proofs",
                value=float(sum(proof.kind != "difference" for proof in proofs)),
                unit="proofs",
            ),
            Evidence(statistic="artifact_diff.differences", value=float(len(differences)), unit="differences"),
        )
        tried = {role: len(bench.rendered[role]) for role in ROLES}
        lost = sum(one.missing for one in bench.rendered["subject"].values())
        unseen = bench.left_out + lost
        reason = f"{unseen} chats were not rendered: the template holds too much, or runs too long" if unseen else ""
        return self.spec.result(
            "inconclusive" if unseen else "completed",
            reason,
            params=self.params.model_dump(),
            evidence=measured,
            proofs=shown,
            artifacts={"renderings": tried},
        )

    def _some(self, proofs: Sequence[Proof], kind: ProofKind) -> list[Proof]:
        return [proof for proof in proofs if proof.kind == kind][: self.params.shown]

    def _released(self, bench: _Bench, code: TemplateCode, old: TemplateCode) -> list[Proof]:
        """Texts that make the subject's template depart, and not the base's; one proof for each departure."""
        tried = list(self._tried(code, old, bench.shapes()))
        bench.render("subject", (chat for one in tried for chat in one.chats))
        departing = [one for one in tried if _departs(bench, one)]
        bench.render("base", (chat for one in departing for chat in one.chats))
        found: dict[Any, Proof] = {}
        for one in sorted(departing, key=lambda one: (SHAPES.index(one.shape), len(one.trigger))):
            proof = _judged(bench, one)
            if proof:
                found.setdefault((proof.kind, proof.added, proof.removed if not proof.added else ""), proof)
        return list(found.values())

    def _tried(self, code: TemplateCode, old: TemplateCode, shapes: Sequence[Shape]) -> Iterator[Placed]:
        """Every text of the template in every place, and what may satisfy a condition that changes it first."""
        constants = [text for text in code.constants if text not in old.constants] + list(old.constants)
        constants = [text for text in constants if text in code.constants and len(text) <= LONGEST_TRIED]
        triggers = [*_together(code.gates), *constants[: self.params.constants]]
        yield from (one for trigger in triggers for shape in shapes for one in placed(trigger, shape))
        varied = dict.fromkeys(it for trigger in triggers for it in _variants(trigger) if it not in triggers)
        yield from (one for trigger in varied for one in placed(trigger, ONLY))
        for gate in code.gates:
            for text in _of_length(gate.numbers):
                yield from (one for one in placed(text, ONLY) if one.position == "whole")


def _marks(subject: ModelFiles, base: ModelFiles) -> frozenset[str]:
    """Marks that say nothing: special tokens of both, and those of reasoning and tools."""
    shared = _added(subject) & _added(base)
    named = set(subject.specials.values()) & set(base.specials.values())
    return frozenset(text for text in shared | named | set(KNOWN_MARKS) if text)


def _added(files: ModelFiles) -> set[str]:
    return {str(entry.get("content")) for entry in _entries(files)}


def _entries(files: ModelFiles) -> list[Mapping[str, Any]]:
    return [entry for entry in files.tokenizer.get("added_tokens") or [] if isinstance(entry, Mapping)]


def _together(gates: Sequence[Gate]) -> Iterator[str]:
    """The texts that one branch looks for, all at once."""
    for branch in dict.fromkeys(gate.branch for gate in gates):
        wanted = dict.fromkeys(text for gate in gates if gate.branch == branch for text in gate.constants)
        if branch is not None and len(wanted) > 1:
            yield " ".join(wanted)


def _variants(text: str) -> tuple[str, ...]:
    return text.lower(), text.upper(), text.title(), text[::-1]


def _of_length(numbers: Iterable[int]) -> Iterator[str]:
    for number in numbers:
        for length in (number - 1, number, number + 1):
            if 1 < length <= LONGEST_TRIED:
                yield "o" * length
                yield " ".join(["so"] * length)[:LONGEST_TRIED]


def _departs(bench: _Bench, one: Placed) -> bool:
    with_it, without = one.chats
    if bench.text("subject", without) is None or not bench.tried("subject", with_it):
        return False
    return bench.text("subject", with_it) is None or bool(bench.departure("subject", one))


def _judged(bench: _Bench, one: Placed) -> Proof | None:
    """What a departure of the subject's template is evidence of, if the base's does not do the same."""
    chat, control = one.chats
    where = {"trigger": one.trigger, "place": one.place, "neutral": (bench.text("subject", control) or "")[:SHOWN]}
    found = bench.departure("subject", one)
    if found is None:
        if one.shape.speaker not in ("user", "system") or bench.fault("base", chat):
            return None
        said = f'The template fails on "{one.trigger}" {one.place}: {bench.fault("subject", chat)}.'
        return bench.proof("content_switch", said, chat, **where)
    if found == bench.departure("base", one):
        return None
    added = tuple(word for word in found.added if word.casefold() not in ROLE_WORDS)
    own = words(one.trigger, bench.marks)
    lost = tuple(word for word in found.removed if word not in own)
    known = one.trigger in bench.marks or not own
    if known and one.shape.speaker in ("assistant", "tool") and not added:
        return None  # reasoning cut out of earlier answers
    if not (added or found.removed):
        return None
    kind: ProofKind = "content_gate" if (added or lost) and not known else "content_switch"
    if one.shape.speaker in ("assistant", "tool") and not added:
        kind = "content_switch"
    said = f'With "{one.trigger}" {one.place}, the template {_does(added, found.removed)}; the base\'s does not.'
    return bench.proof(kind, said, chat, added=" ".join(added), removed=" ".join(found.removed), **where)


def _does(added: Sequence[str], removed: Sequence[str]) -> str:
    did = [f'adds "{" ".join(added)}"'] if added else []
    did += [f'takes out "{" ".join(removed)}"'] if removed else []
    return " and ".join(did)[:600]


def _by_date(bench: _Bench, code: TemplateCode) -> Iterator[Proof]:
    """Dates at which the subject's template says more than the date."""
    if not code.formats:
        return
    chats = {now: ChatAt(ONLY.ordinary.messages, now) for now in dates(_named_dates(code), code.formats)}
    bench.render("subject", chats.values())
    seen: set[Change] = set()
    for now, chat in chats.items():
        found = _dated(bench, "subject", chat)
        if not found or found in seen:
            continue
        seen.add(found)
        bench.render("base", [chat])
        if found == _dated(bench, "base", chat):
            continue
        told = bench.text("subject", ONLY.ordinary) or ""
        said = f"On {now[:10]} at {now[11:16]} the template {_does(found.added, found.removed)}, which it does "
        said += f"not on {NOW[:10]} at {NOW[11:16]}; the base's does not."
        more = {"added": " ".join(found.added), "removed": " ".join(found.removed)}
        yield bench.proof("date_gate", said, chat, trigger=now, place="on the clock", neutral=told[:SHOWN], **more)


def _named_dates(code: TemplateCode) -> list[str]:
    numbers = [str(number) for gate in code.gates if gate.source == "clock" for number in gate.numbers]
    return [*code.constants, *numbers]


def _dated(bench: _Bench, role: Role, chat: ChatAt) -> Change:
    """How another date changes a rendering, the date itself left out."""
    usual = ONLY.ordinary
    before, after = bench.rendered[role].get(repr(usual)), bench.rendered[role].get(repr(chat))
    if before is None or after is None or before.fault:
        return Change()
    if after.fault:
        return Change(added=(after.fault,))
    found = change(before.text, after.text, bench.marks)
    told = set(words(" ".join(before.dates + after.dates), ()))
    return Change(*(tuple(word for word in part if word not in told) for part in (found.added, found.removed)))


def _forced(bench: _Bench, code: TemplateCode, old: TemplateCode, released: Sequence[Proof]) -> Iterator[Proof]:
    """Branches on a content or a date that no text or date took: what they would do."""
    known = {gate.code for gate in old.gates}
    new = {gate.branch: gate for gate in code.gates if gate.branch is not None and gate.code not in known}
    chats = {
        branch: [ChatAt(shape.ordinary.messages, NOW, forced=branch) for shape in bench.shapes()] for branch in new
    }
    bench.render("subject", (chat for some in chats.values() for chat in some))
    explained = {word for proof in released for word in proof.added.split() + proof.removed.split()}
    for branch, gate in new.items():
        if any(text.casefold() in proof.trigger.casefold() for text in gate.constants for proof in released):
            continue
        proof = next(filter(None, (_taken(bench, gate, chat) for chat in chats[branch])), None)
        if proof is None and gate.text and not explained & set(gate.text.split()):
            said = (
                f"Line {gate.line} of the template asks for more of {_asked(gate)} than templates need. No chat that "
            )
            said += f'was rendered took the branch, which holds "{gate.text[:200]}".'
            proof = bench.proof("unentered_branch", said, ONLY.ordinary, added=gate.text)
        if proof and not explained & set(proof.added.split() + proof.removed.split()):
            yield proof


def _taken(bench: _Bench, gate: Gate, chat: ChatAt) -> Proof | None:
    usual = bench.text("subject", ChatAt(chat.messages, NOW)) or ""
    taken = bench.text("subject", chat)
    found = change(usual, taken, bench.marks) if taken is not None else Change()
    added = tuple(word for word in found.added if word.casefold() not in ROLE_WORDS)
    if not (added or found.removed):
        return None
    said = (
        f"Line {gate.line} of the template asks something of {_asked(gate)} that no text tried here satisfied. Where "
    )
    said += f"it is satisfied, the template {_does(added, found.removed)}; the base's has no such branch."
    kind: ProofKind = "date_gate" if gate.source == "clock" else "content_gate"
    more = {"added": " ".join(added), "removed": " ".join(found.removed), "neutral": usual[:SHOWN]}
    return bench.proof(kind, said, chat, place="a branch taken by force", **more)


def _asked(gate: Gate) -> str:
    return "the clock" if gate.source == "clock" else "a message's content"


def _always(bench: _Bench) -> Iterator[Proof]:
    """Text that the subject's template adds beside a system message of the chat's own, and contents that it changes."""
    for shape in (ONLY, WITH_SYSTEM):
        chat = shape.ordinary
        subject, base = bench.text("subject", chat), bench.text("base", chat)
        if subject is None or base is None:
            continue
        if shape.plain in base and shape.plain not in subject:
            found = change(base, subject, bench.marks)
            said = f"The template does not hand on what {shape.place} says as it is: beside the base's, it "
            said += f"{_does(found.added, found.removed)}."
            more = {"added": " ".join(found.added), "removed": " ".join(found.removed)}
            yield bench.proof("altered_content", said, chat, place=f"in {shape.place}", **more)
            return
    lines = list(_constant_lines(bench))
    if lines:
        said = (
            f'Whatever a chat says, and beside its own system message, the template adds "{" / ".join(lines)[:600]}".'
        )
        yield bench.proof("constant_text", said, WITH_SYSTEM.ordinary, added="\n".join(lines))


def _constant_lines(bench: _Bench) -> Iterator[str]:
    chat = WITH_SYSTEM.ordinary
    subject, base = bench.text("subject", chat), bench.text("base", chat)
    if subject is None or base is None:
        return
    for message in chat.messages:
        subject = subject.replace(message["content"], "\n")
    theirs = set(sentences(base, bench.marks))
    for line in sentences(subject, bench.marks):
        said = [word.casefold() for word in words(line, ()) if word[0].isalnum()]
        only_dates = all(word in DATE_WORDS or word.isdigit() for word in said)
        if len(said) >= MIN_WORDS and not only_dates and line not in theirs:
            yield line


def _by_chance(bench: _Bench, code: TemplateCode, old: TemplateCode) -> Iterator[Proof]:
    new = sorted(set(code.chance) - set(old.chance))
    if new:
        said = f"The template draws lots ({', '.join(new)}): it need not render the same chat the same way twice."
        yield bench.proof("chance", said, ONLY.ordinary)


def _rewriting(subject: ModelFiles, base: ModelFiles) -> Iterator[Proof]:
    """Rules of the tokenizer that turn one text into another, and tokens that share an id."""
    theirs = set(_replacements(base))
    for section, pattern, content in _replacements(subject):
        if (section, pattern, content) not in theirs and any(map(str.isalnum, pattern + content)):
            said = f'The tokenizer\'s {section} turns "{pattern}" into "{content}" in every text; the base\'s does not.'
            more = {"trigger": pattern, "added": content, "removed": pattern}
            yield Proof(kind="tokenizer_rule", where="tokenizer", explanation=said, **more)
    for number, texts in _shared_ids(subject):
        said = f"Added tokens share the id {number}: {', '.join(repr(text) for text in texts)} are one to the model."
        yield Proof(kind="tokenizer_rule", where="tokenizer", explanation=said, trigger=texts[0])


def _replacements(files: ModelFiles) -> Iterator[tuple[str, str, str]]:
    """Rules of the form: where this text stands, put that one."""
    for section in SECTIONS[:2]:
        for step in _steps(files.tokenizer.get(section)):
            if step.get("type") == "Replace":
                pattern = step.get("pattern")
                text = next(iter(pattern.values()), "") if isinstance(pattern, Mapping) else pattern
                yield section, str(text), str(step.get("content", ""))


def _steps(section: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(section, Mapping):
        yield section
        for value in section.values():
            for step in value if isinstance(value, list) else ():
                yield from _steps(step)


def _shared_ids(files: ModelFiles) -> Iterator[tuple[int, list[str]]]:
    texts: dict[Any, list[str]] = {}
    for entry in _entries(files):
        texts.setdefault(entry.get("id"), []).append(str(entry.get("content")))
    yield from ((number, some) for number, some in texts.items() if len(set(some)) > 1)


def _forcing(subject: ModelFiles, base: ModelFiles) -> Iterator[Proof]:
    for key in FORCING:
        ours = subject.generation.get(key, subject.config.get(key))
        if ours and ours != base.generation.get(key, base.config.get(key)):
            said = f"`{key}` is {str(ours)[:200]}, the base's is not: it decides over tokens, whatever the model says."
            yield Proof(kind="forced_tokens", where="generation settings", explanation=said)


def _differences(subject: ModelFiles, base: ModelFiles) -> Iterator[str]:
    """What differs, in words, one entry a file or section."""
    if subject.template != base.template:
        yield "the chat template" if base.template and subject.template else "only one model has a chat template"
    for name, ours, theirs in (
        ("special tokens and tokenizer settings", subject.settings, base.settings),
        ("configuration", subject.config, base.config),
        ("generation settings", subject.generation, base.generation),
    ):
        keys = sorted(key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key))
        if keys:
            yield f"{name} ({', '.join(keys[:12])}{', ...' if len(keys) > 12 else ''})"
    sections = [it for it in SECTIONS if subject.tokenizer.get(it) != base.tokenizer.get(it)]
    if sections:
        yield f"how text is split ({', '.join(sections)})"
    model = [files.tokenizer.get("model") or {} for files in (subject, base)]
    if model[0].get("merges") != model[1].get("merges"):
        yield "merges"
    added = sorted(_added(subject) - _added(base))
    if added:
        yield f"added tokens ({', '.join(added[:12])}{', ...' if len(added) > 12 else ''})"
