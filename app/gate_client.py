"""Asks a Touchstone service whether a model may pass, on a machine where nothing is installed: standard library only.

    printf '%s' "$KEY" | python3 -I app/gate_client.py --url https://touchstone.example --model MODEL --base BASE

The key comes on standard input, where no list of processes shows it. Exit codes are those of every Touchstone command:

    0  the service says, in so many words, that contents with this digest are allowed
    1  they are not, by the verdict of their report
    2  the call is wrong, or the key is not accepted
    3  they are not, for want of a valid report; or there is no answer, or none that can be understood
    4  their scan is still under way

Redirects are not followed, for the key would travel along. What the service says is shown in one line without control
characters, behind a prefix: a line that begins with `::` would be a command to the pipeline that reads it.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import sys
import traceback
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

ALLOWED, DENIED, WRONG_CALL, NOT_KNOWN, UNFINISHED = 0, 1, 2, 3, 4

VERDICTS = ("strong_evidence", "suspicious", "inconclusive", "no_evidence")
RUNNING = ("queued", "resolving", "checking", "running", "deciding")
REJECTED = (400, 401, 403, 404, 422)
"""Statuses that say that the call is at fault; every other one is the service's."""

TIMEOUT_S = 30.0
ANSWER_LIMIT = 8 * 2**20
"""Bytes read of an answer."""

SUMMARY_LIMIT = 500_000
"""Characters written to a summary; pipelines refuse large ones."""

_NAME = re.compile(r"[A-Za-z0-9:._-]{1,128}")
"""A scan's id, or a digest."""

_KEY = re.compile(r"[\x21-\x7e]{1,512}")


class Answer(NamedTuple):
    """What the service says of a model.

    Attributes:
        outcome: what its policy makes of the verdict: `pass`, `warn`, `fail`, `inconclusive`, or `closed`.
        digest: of the files that the answer is about, and of no others.
        state: of a scan under way, where the service names one.
    """

    allow: bool
    outcome: str
    reason: str
    verdict: str | None
    scan_id: str | None
    digest: str | None
    state: str | None

    @property
    def exit_code(self) -> int:
        """What the pipeline is told."""
        if self.allow:
            return ALLOWED
        if self.outcome == "fail" and self.verdict not in (None, "inconclusive"):
            return DENIED
        return UNFINISHED if self.state in RUNNING else NOT_KNOWN


class NoAnswer(Exception):
    """There is no decision, and why."""

    def __init__(self, message: str, exit_code: int = NOT_KNOWN) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Leaves a redirect an error."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Asks, says what was answered, and returns the exit code; a fault of our own is never a verdict's."""
    options = _parser().parse_args(arguments)
    try:
        return _ask(options)
    except Exception:  # the last net: Python would exit with 1, which means a verdict here
        traceback.print_exc()
        return NOT_KNOWN


def _ask(options: argparse.Namespace) -> int:
    try:
        service = _Service(options.url, sys.stdin.read().strip())
        answer = understood(service.get("/v1/gate", _query(options), "application/json"))
    except NoAnswer as error:
        _tell(f"not allowed: {error}")
        _append(options.summary, _summary("not allowed", str(error)))
        return error.exit_code
    said = "allowed" if answer.allow else "not allowed"
    _tell(f"{said}: {answer.reason} (verdict {answer.verdict}, scan {answer.scan_id}, files {answer.digest})")
    _append(options.output, _outputs(answer))
    _append(options.summary, _summary(said, answer.reason))
    if answer.scan_id:
        _fetch_reports(service, answer.scan_id, options)
    return answer.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Ask a Touchstone service whether a model may pass.")
    parser.add_argument("--url", required=True, help="address of the service, http or https")
    parser.add_argument("--model", required=True, help="reference of the model")
    parser.add_argument("--base", required=True, help="reference of the base it was fine-tuned from")
    parser.add_argument("--policy", default="", help="policy to decide under")
    parser.add_argument("--max-age", default="", help="how old a report may be")
    parser.add_argument("--sarif", default="", help="file for the report in SARIF")
    parser.add_argument("--summary", default="", help="file that the report in Markdown is added to")
    parser.add_argument("--output", default="", help="file that allow, verdict, scan-id, digest and sarif are added to")
    return parser


def _query(options: argparse.Namespace) -> dict[str, str]:
    names = ("model", "base", "policy", "max_age")
    return {name: value for name in names if (value := getattr(options, name))}


class _Service:
    """A Touchstone service and the key it is asked with."""

    def __init__(self, url: str, key: str) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise NoAnswer(f"`--url` must be an address such as https://touchstone.example, got {url}", WRONG_CALL)
        if not _KEY.fullmatch(key):
            raise NoAnswer("the key must come on standard input, got none or one with spaces in it", WRONG_CALL)
        self._url = url.rstrip("/")
        self._key = key
        self._opener = urllib.request.build_opener(_NoRedirect)

    def get(self, path: str, query: dict[str, str], accept: str) -> bytes:
        """The body of a successful answer, at most `ANSWER_LIMIT` bytes."""
        url = f"{self._url}{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        headers = {"Accept": accept, "Authorization": f"Bearer {self._key}"}
        request = urllib.request.Request(url, headers=headers)  # noqa: S310  # the scheme was checked
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as response:
                body = cast(bytes, response.read(ANSWER_LIMIT + 1))
        except urllib.error.HTTPError as error:
            with error:
                raise _refused(error) from None
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswer(f"the service at {self._url} does not answer: {error}") from None
        if len(body) > ANSWER_LIMIT:
            raise NoAnswer(f"the service answered with more than {ANSWER_LIMIT} bytes")
        return body


def _refused(error: urllib.error.HTTPError) -> NoAnswer:
    """The problem that the service names (RFC 9457)."""
    try:
        problem = json.loads(error.read(ANSWER_LIMIT))
        detail = str(problem.get("detail") or problem.get("title"))
    except (ValueError, AttributeError, OSError, http.client.HTTPException):
        detail = "it says no more"
    return NoAnswer(f"the service answered {error.code}: {detail}", WRONG_CALL if error.code in REJECTED else NOT_KNOWN)


def understood(body: bytes) -> Answer:
    """What an answer of `/v1/gate` says.

    Raises:
        NoAnswer: if it is no decision that this client knows.
    """
    try:
        fields = json.loads(body)
        answer = Answer(
            allow=fields["allow"],
            outcome=fields["outcome"],
            reason=fields["reason"],
            verdict=fields["verdict"],
            scan_id=fields["scan_id"],
            digest=fields["subject_digest"],
            state=fields.get("state"),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise NoAnswer("the service's answer is no decision of a gate; check `--url`") from None
    said = isinstance(answer.allow, bool) and isinstance(answer.reason, str)
    known = answer.verdict is None or answer.verdict in VERDICTS
    named = all(name is None or _is_name(name) for name in (answer.scan_id, answer.digest))
    if not (said and known and named) or (answer.allow and answer.digest is None):
        raise NoAnswer("the service's answer is no decision of a gate that this client knows; update either")
    return answer


def _is_name(value: object) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def _fetch_reports(service: _Service, scan_id: str, options: argparse.Namespace) -> None:
    """Adds the report where it was asked for. The decision stands without it."""
    path = f"/v1/scans/{urllib.parse.quote(scan_id, safe='')}/report"
    try:
        if options.summary:
            report = service.get(path, {}, "text/markdown").decode()
            _append(options.summary, f"\n{report[:SUMMARY_LIMIT]}\n")
        if options.sarif:
            Path(options.sarif).write_bytes(service.get(path, {}, "application/sarif+json"))
            _append(options.output, f"sarif={options.sarif}\n")
    except (NoAnswer, ValueError, OSError) as error:
        _tell(f"the report could not be fetched: {error}")


def _outputs(answer: Answer) -> str:
    values = {
        "allow": str(answer.allow).lower(),
        "verdict": answer.verdict or "",
        "scan-id": answer.scan_id or "",
        "digest": answer.digest or "",
    }
    return "".join(f"{name}={value}\n" for name, value in values.items())


def _summary(said: str, reason: str) -> str:
    return f"**Touchstone gate: {said}.** `{_plain(reason).replace('`', '?')}`\n"


def _tell(text: str) -> None:
    print(f"touchstone: {_plain(text)}")


def _plain(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text[:1_000])


def _append(path: str, text: str) -> None:
    if path:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    sys.exit(main())
