"""A key may hold a line break.

Stock moto routes by the pattern `.+`, which stops at a line break, and answers 404 to a key that S3
takes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moto.s3.models import S3Backend


def apply() -> None:
    """Let moto's S3 routes match any character of a key."""
    stock_paths = S3Backend.flask_paths.fget

    def flask_paths(self: S3Backend) -> dict[str, Callable[..., Any]]:
        return {
            path.replace('regex(".+"):key', r'regex("[\s\S]+"):key').replace(
                'regex("/.*"):key', r'regex("/[\s\S]*"):key'
            ): handler
            for path, handler in stock_paths(self).items()
        }

    S3Backend.flask_paths = property(flask_paths)
