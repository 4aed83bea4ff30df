"""The manifest as bytes: strict JSON that ends in a digest of everything before it.

The last lines are always

      "digest": "xxh3-128:<32 hex digits>"
    }

and the digest is over all bytes of the file up to the `"digest"` key. So a reader in any language
checks it without having to reproduce anybody's JSON formatting, and an entry that was dropped or
changed cannot pass.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import cast

from holdfast.digest import digest_bytes
from holdfast.errors import DamagedError
from holdfast.jsontext import Json, as_text, dump, parse_object
from holdfast.manifest.fields import manifest_from_fields, manifest_to_fields, metric_out
from holdfast.manifest.record import Manifest

MANIFEST_MAX_BYTES = 16 << 20

_TAIL = re.compile(rb'  "digest": "(xxh3-128:[0-9a-f]{32})"\n}\n\Z')


def render_manifest(manifest: Manifest) -> bytes:
    """Serialise, with the digest of itself at the end."""
    return _seal(manifest_to_fields(manifest))


def edit_manifest(
    data: bytes,
    *,
    where: str,
    metrics: Mapping[str, float] | None = None,
    pinned: str | None = None,
    unpin: bool = False,
) -> bytes:
    """A committed manifest with more metrics, or with its pin set or taken away.

    metrics: added to those it has, replacing namesakes. pinned: the reason to pin it. Everything
    else stays as it was written, keys this version does not know included, at any depth. Raises
    DamagedError or FormatError if `data` is not a sound manifest.
    """
    parse_manifest(data, where=where)
    fields = parse_object(data, where=where, max_bytes=MANIFEST_MAX_BYTES)
    del fields["digest"]
    if metrics is not None:
        added: dict[str, Json] = {name: metric_out(value) for name, value in metrics.items()}
        fields["metrics"] = {**cast(dict[str, Json], fields["metrics"]), **added}
    if pinned is not None or unpin:
        fields["pinned"] = pinned
    return _seal(fields)


def _seal(fields: Mapping[str, Json]) -> bytes:
    """The fields as text, and the digest of that text at its end."""
    # A command line or a message may hold bytes that are no text.
    body = dump(as_text(fields), indent=2)
    covered = body[: -len("\n}")] + b",\n"
    return covered + b'  "digest": "' + digest_bytes(covered).encode("ascii") + b'"\n}\n'


def parse_manifest(data: bytes, *, where: str) -> Manifest:
    """Read and prove a manifest.

    Raises DamagedError if the bytes are not those that were committed, FormatError if they break
    the format's rules. `where` names the file in errors.
    """
    tail = _TAIL.search(data[-80:])
    if tail is None:
        raise DamagedError(
            "The manifest does not end in its own digest: it was cut short, edited, or is not ours",
            where=where,
            fix="use another checkpoint of the run; this one cannot be trusted",
        )
    covered = data[: len(data) - (tail.end() - tail.start())]
    expected, found = tail.group(1).decode("ascii"), digest_bytes(covered)
    if expected != found:
        raise DamagedError(
            f"The manifest says its digest is {expected}, its bytes have {found}",
            where=where,
            fix="use another checkpoint of the run; this one cannot be trusted",
        )
    fields = parse_object(data, where=where, max_bytes=MANIFEST_MAX_BYTES)
    del fields["digest"]
    return manifest_from_fields(fields, where=where)
