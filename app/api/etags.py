"""Conditional requests (RFC 9110, section 13)."""

from __future__ import annotations

from fastapi import Request


def unchanged(request: Request, etag: str) -> bool:
    """Whether the caller has this state already, by its `If-None-Match`; weak and strong tags compare alike."""
    given = [tag.strip().removeprefix("W/") for tag in request.headers.get("If-None-Match", "").split(",")]
    return etag.removeprefix("W/") in given or given == ["*"]
