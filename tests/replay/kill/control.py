"""What a cloud is asked itself, beside AWS: who its client is, where to kill it, what it saw."""

from __future__ import annotations

import json
import urllib.request

from tests.replay.kill.forking import Json

#: Paths of such requests begin so.
CONTROL = "/_kill/"


def told(endpoint: str, what: str, given: Json) -> Json:
    """Ask the server itself."""
    asked = urllib.request.Request(
        endpoint + CONTROL + what, data=json.dumps(given).encode(), method="POST"
    )
    with urllib.request.urlopen(asked) as answer:
        told: Json = json.load(answer)
    return told
