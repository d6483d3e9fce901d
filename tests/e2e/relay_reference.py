"""Relay's published package as a reference for normalisation, and how its events differ from ours on purpose.

The options are those of a processing Relay of a self-hosted Sentry, as far as the package takes them: it does not resolve
`{{auto}}`, does not read `sent_at`, and has no project configuration (no breakdowns, no performance scores).
"""

import json

from sentry_relay.processing import StoreNormalizer

from odd_events import T

OPTIONS = {
    "project_id": 7,
    "client": "sdk/1.0",
    "key_id": "11",
    "protocol_version": "7",
    "received_at": "2027-01-15T08:00:00Z",
    "max_secs_in_past": 90 * 86400,
    "max_secs_in_future": 60,
    "enable_trimming": True,
    "remove_other": True,
    "normalize_user_agent": True,
    "is_renormalize": False,
}


class Reference:
    """The package with options."""

    def __init__(self, **options):
        self.normalizer = StoreNormalizer(**{**OPTIONS, **options})

    def normalised(self, payload):
        """The event, or None where Relay refuses it."""
        try:
            return self.normalizer.normalize_event(raw_event=payload)
        except Exception as error:  # noqa: BLE001 - the package's errors have no common class
            if "InvalidTransaction" in repr(error):
                return None
            raise


def given(payload, event_id, **context):
    """A line for `operators/examples/normalise.rs`."""
    return json.dumps({"payload": payload, "received_ms": T * 1000, "event_id": event_id, "client": "sdk/1.0"} | context)


def differences(ours, theirs, path=()):
    """The paths where two values differ, with both values. Numbers are equal where they have the same value."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted(ours.keys() | theirs.keys()):
            if key not in ours:
                yield (*path, key), MISSING, theirs[key]
            elif key not in theirs:
                yield (*path, key), ours[key], MISSING
            else:
                yield from differences(ours[key], theirs[key], (*path, key))
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for index, (one, other) in enumerate(zip(ours, theirs)):
            yield from differences(one, other, (*path, index))
    elif ours != theirs or isinstance(ours, bool) != isinstance(theirs, bool):
        yield path, ours, theirs


class Missing:
    """Stands for a member that is not there."""

    def __repr__(self):
        return "(not there)"


MISSING = Missing()


def comparable(event):
    """The event with `errors` in one order: Relay lists them as it walks, we as we find them."""
    event = dict(event)
    if isinstance(event.get("errors"), list):
        event["errors"] = sorted(event["errors"], key=lambda error: json.dumps(error, sort_keys=True))
    return event
