"""Events come out of normalisation as Relay's published package makes them, but for what DELIBERATE lists.

The recorded events, and thousands with something odd at every field, go through `operators/examples/normalise.rs`; no server runs.
"""

import json
import os
import pathlib
import subprocess

import pytest
from envelopes import error, parse, recorded
from mmdb_writer import MMDBWriter
from netaddr import IPSet
from odd_events import odd_events
from relay_reference import MISSING, Reference, comparable, differences, given

DEFAULTS = (20261124, 1500)
SEED = int(os.environ.get("WEIR_ODD_EVENTS_SEED", DEFAULTS[0]))
COUNT = int(os.environ.get("WEIR_ODD_EVENTS_COUNT", DEFAULTS[1]))
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", pathlib.Path.home() / ".cache/weir/target"))
NORMALISE = TARGET / "release/examples/normalise"
NOTES_MAX = 1000
"""Places of an event that we remark on."""

USER_AGENTS = """\
Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36
Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.1 Safari/605.1.15
Mozilla/5.0 (Macintosh; Intel Mac OS X 10.14; rv:109.0) Gecko/20100101 Firefox/115.0
Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:109.0) Gecko/20100101 Firefox/120.0
Mozilla/5.0 (iPhone; CPU iPhone OS 17_1_2 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.1.2 Mobile/15E148 Safari/604.1
Mozilla/5.0 (iPad; CPU OS 16_3 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/16.3 Mobile/15E148 Safari/604.1
Mozilla/5.0 (Linux; Android 13; Pixel 7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/119.0.0.0 Mobile Safari/537.36
Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Mobile Safari/537.36
Mozilla/5.0 (Linux; Android 12; SM-G991B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/20.0 Chrome/106.0.5249.126 Mobile Safari/537.36
Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36 Edg/120.0.2210.61
Mozilla/5.0 (Windows NT 6.1; WOW64; Trident/7.0; rv:11.0) like Gecko
Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)
Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X Build/MMB29P) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/118.0.5993.117 Mobile Safari/537.36 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)
Opera/9.80 (Windows NT 6.1; WOW64) Presto/2.12.388 Version/12.18
curl/8.4.0
python-requests/2.31.0
Go-http-client/1.1
okhttp/4.12.0
node-fetch
PostmanRuntime/7.35.0
Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/119.0.0.0 Safari/537.36
Mozilla/5.0 (SMART-TV; LINUX; Tizen 6.0) AppleWebKit/537.36 (KHTML, like Gecko) 76.0.3809.146/6.0 TV Safari/537.36
Mozilla/5.0 (PlayStation; PlayStation 5/2.26) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/13.0 Safari/605.1.15
nonsense
Wget/1.21.3
Java/17.0.1
MyApp/1.0 CFNetwork/1474 Darwin/23.0.0
Mozilla/5.0 (Android 13; Mobile; rv:109.0) Gecko/119.0 Firefox/119.0
Mozilla/5.0 (Linux; Android 9; AFTS) AppleWebKit/537.36 (KHTML, like Gecko) Silk/98.6.10 like Chrome/98.0.4758.136 Safari/537.36
Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/119.0.6045.109 Mobile/15E148 Safari/604.1"""


def is_near(one, other):
    """Relay reads some decimals as a neighbouring float, and cuts where we round to microseconds."""
    floats = isinstance(one, (int, float)) and isinstance(other, (int, float)) and not isinstance(one, bool) and not isinstance(other, bool)
    return floats and abs(one - other) <= max(1.5e-6, abs(other) * 1e-12)


# What differs on purpose, each with its reason: (name, whether a difference at a path is of this kind).
DELIBERATE = [
    ("the client's breakdowns are summed up here: Relay needs a project configuration for it", lambda path, ours, theirs: path[0] == "breakdowns" or path[:2] == ("_meta", "breakdowns")),
    ("`errors` are compared through `_meta`, which has each of them", lambda path, ours, theirs: path[0] == "errors"),
    ("an error that was listed before is not read again as a part of the event", lambda path, ours, theirs: path[:2] == ("_meta", "errors")),
    ("numbers are the floats that their decimals name, times rounded to microseconds", lambda path, ours, theirs: is_near(ours, theirs)),
    ("made ids are made of the event's, so that a replay makes the same", lambda path, ours, theirs: path[-1] in ("trace_id", "span_id") and is_made(ours)),
    ("names of devices in shops are not looked up", lambda path, ours, theirs: path == ("contexts", "device", "name") and ours is MISSING),
    ("exclusive times are computed: Relay does it, but not in the package", lambda path, ours, theirs: path[-1] == "exclusive_time" and theirs in (MISSING, None)),
    ("a feature flag's result has no limit on its depth", lambda path, ours, theirs: path[:3] == ("contexts", "flags", "values")),
]


def is_made(value):
    """A trace id that is made is the event's id, a span id the half of it."""
    return value in (EVENT_ID, EVENT_ID[:16])


# What differs without a purpose among the events of the default seed: what was changed in the event, and the place that differs.
KNOWN = {
    # Relay remarks on a method as it came, we on the one in upper case.
    ("request.method", ("_meta", "request", "method", "", "val")),
}

EVENT_ID = "9ec79c33ec9942ab8353589fcb2e04dc"


def normalised(payloads, places=None, **context):
    lines = "".join(given(payload, EVENT_ID, **context) + "\n" for payload in payloads)
    env = {**os.environ, **({"WEIR_GEO__DATABASE": places} if places else {})}
    done = subprocess.run([NORMALISE], input=lines, capture_output=True, text=True, check=True, env=env)
    return [json.loads(line) for line in done.stdout.splitlines()]


def notes(meta):
    """The places that are remarked on."""
    return sum(1 if key == "" else notes(inner) for key, inner in meta.items() if isinstance(inner, dict))


def unexplained(ours, theirs):
    """The differences that nothing in DELIBERATE explains."""
    if theirs is None or "error" in ours:
        # A text end may lie up to a microsecond before a start in floats; Relay refuses that.
        return [] if (theirs is None) == ("error" in ours) else [("refused", ours, theirs)]
    if notes(theirs.get("_meta", {})) > NOTES_MAX:
        # Beyond the bound what is wrong is changed silently.
        return []
    theirs = {**theirs, "event_id": ours["event_id"]}
    found = differences(comparable(ours), comparable(theirs))
    return [(path, one, other) for path, one, other in found if not any(is_kind(path, one, other) for _, is_kind in DELIBERATE)]


def said(differing, limit=15):
    lines = [f"{name}: {'.'.join(map(str, path)) if isinstance(path, tuple) else path}\n  ours:   {str(ours)[:300]}\n  theirs: {str(theirs)[:300]}" for name, found in differing for path, ours, theirs in found[:3]]
    return "\n".join(lines[:limit])


@pytest.fixture(scope="module", autouse=True)
def built():
    if not NORMALISE.exists():
        pytest.fail(f"there is no {NORMALISE}: run tests/run, or `cargo build --release -p weir-operators --example normalise` first")


def test_recorded_events():
    received_ms = 1_795_507_200_000
    events = [(request.name, item) for request in recorded() for item in items_of(request)]
    assert len(events) > 25
    payloads = [json.dumps({**item.json(), **({"type": "transaction"} if item.type == "transaction" else {})}) for _, item in events]
    reference = Reference(received_at="2026-11-24T08:00:00Z")
    differing = [(name, unexplained(ours, reference.normalised(payload))) for (name, _), payload, ours in zip(events, payloads, normalised(payloads, received_ms=received_ms))]
    assert not any(found for _, found in differing), said(differing)


def items_of(request):
    try:
        items = parse(request.body)[1]
    except Exception:  # noqa: BLE001 - not everything that was recorded is an envelope
        return []
    return [item for item in items if item.type in ("event", "transaction")]


def test_odd_events():
    print(f"seed {SEED}: WEIR_ODD_EVENTS_SEED={SEED} repeats this")
    events = list(odd_events(SEED, COUNT))
    payloads = [json.dumps(event) for _, event in events]
    reference = Reference()
    differing = [(changed, unexplained(ours, reference.normalised(payload))) for (changed, _), payload, ours in zip(events, payloads, normalised(payloads))]
    differing = [(changed, found) for changed, found in differing if found]
    if (SEED, COUNT) == DEFAULTS:
        assert {(changed, path) for changed, found in differing for path, _, _ in found} == KNOWN, said(differing)
    # Where two odd things meet a limit at once a few more differ, in what is remarked on more than in what is stored.
    assert len(differing) * 300 <= COUNT, f"seed {SEED}: {len(differing)} of {COUNT} differ\n{said(differing)}"


def test_user_agents():
    payloads = [json.dumps({"request": {"headers": [["User-Agent", agent]]}}) for agent in USER_AGENTS.splitlines()]
    reference = Reference()
    differing = [(agent, unexplained(ours, reference.normalised(payload))) for agent, payload, ours in zip(USER_AGENTS.splitlines(), payloads, normalised(payloads))]
    assert not any(found for _, found in differing), said(differing)


SYSTEMS = """\
Microsoft Windows 10.0.19045
Microsoft Windows 10.0.22631
Microsoft Windows NT 6.1.7601 Service Pack 1
Microsoft Windows 6.3.9600
Microsoft Windows 5.1.2600
Microsoft  Windows  NT  6.0.6002
Microsoft Windows 10.0
Microsoft Windows
MicrosoftWindows 10.0.10240
Windows 10
Windows 10  (10.0.19045) 64bit
Windows 11  (10.0.22000) 64bit
Windows 8.1  (6.3.9600) 64bit
Windows 7 Service Pack 1 (6.1.7601) 64bit
Windows 10.0.19045abc
Linux 5.10.0
Linux 5.10.16.3-microsoft-standard-WSL2 #1
Linux 5.10.0-18-amd64 #1 SMP Debian 5.10.140-1
Linux 4.19.0 Ubuntu 20.04 64bit
Linux 5.13.0.0 Ubuntu 20.04 64bit
Linux 5.13 SteamOS 3.1.2.3 64bit
Linux 4 Ubuntu 20.04 64bit
Linux
Linux 5-1
Linux 1x
Darwin 21.6.0
Darwin 17.5.0 Darwin Kernel Version 17.5.0
Darwin Kernel Version 21.6.0
Unix 18.2.0.0
Unix 18.2.0.10
macOS 12.1
Mac OS X 10.14.2 (18C54)
Mac OS X 10.14.2
Mac OS X 10.14.2 (18Z54)
Mac OS X 10.14
iOS 17
iOS 17.5.1 (21F90)
iPadOS 16.1.1.2
tvOS 12.1
Android OS 9 / API-28 (PPR1.180610.011/4086678)
Android OS 9.1.2 / API-28
Android 9 / API-28
Android 9.1.2 / API-28
Android OS 9
Nintendo Switch
Nintendo Switch 2
PlayStation 5
Foo  1.2
Foo 1.2-3
Foo .
1.2.3
x"""
RUNTIMES = """\
Mono 5.10.1.47 (2017-12/8eb8f7d5e74 Fri Apr 13 20:18:12 EDT 2018)
Mono
.NET Core 4.6.26614.01
.NET Framework 4.7.3056.0
.NET Native 2.0
.NET 8.0.0-rc.1
.NET 6
node v20.1.0
IronPython 2.7.8 (2.7.8.0)
a 1.2 b 3.4 c
ruby 2.7.1p83 (2020-03-31 revision a0c7c23c9c) [x86_64-linux]
 1.2
1.2
a 1.2.3.4.5"""


def test_raw_descriptions():
    described = [{"os": {"raw_description": text, **more}} for text in SYSTEMS.splitlines() for more in ({}, {"build": "b", "kernel_version": "k"}, {"name": 7, "version": [1], "build": {}})]
    described += [{"os": {"raw_description": "Linux 5.10.0", **more}} for more in ({"name": ""}, {"version": ""}, {"name": "x"}, {"os": "x"}, {"name": None})]
    described += [{"runtime": {"raw_description": text, **more}} for text in RUNTIMES.splitlines() for more in ({}, {"build": "461814"}, {"name": 7, "version": [1]}, {"name": ".NET Framework"})]
    described += [{"runtime": {"name": ".NET Framework", "build": build, "version": "9"}} for build in ("378389", "528449", 461808, 461808.5, "0461808", "1", True)]
    described += [{"other": {"type": "os", "raw_description": "Linux 5.10.0"}}, {"os": {"type": "other", "raw_description": "Linux 5.10.0"}}]
    payloads = [json.dumps({"contexts": contexts}) for contexts in described]
    reference = Reference()
    differing = [(str(contexts), unexplained(ours, reference.normalised(payload))) for contexts, payload, ours in zip(described, payloads, normalised(payloads))]
    differing = [(name, found) for name, found in differing if found]
    assert not differing, said(differing)


def test_device_classes():
    gibibyte = 1 << 30
    devices = [{"family": "iOS", "model": f"{kind}{major},{minor}"} for kind in ("iPhone", "iPad", "iPod") for major in range(20) for minor in range(20)]
    devices += [{"family": family, "model": model} for family in ("iPhone", "iPad", "iphone", "", None, 7) for model in ("iPhone8,1", "iPhone08,1", "iPhone8,1x", "iPhone8", "", None, 7)]
    devices += [{"family": "Pixel", "processor_frequency": frequency, "processor_count": cores, "memory_size": memory} for frequency in (1999, 2000, 2499, 2500, 2500.5, None) for cores in (7, 8, "8") for memory in (4 * gibibyte - 1, 4 * gibibyte, 6 * gibibyte - 1, 6 * gibibyte, None)]
    devices += [{"type": "other", "family": "iOS", "model": "iPhone8,1"}]
    events = [{"contexts": {"device": device}, "tags": {"a": "1"}} for device in devices]
    events += [{"contexts": {"device": devices[0]}, "server_name": "s", "tags": tags} for tags in (None, {}, {"device.class": "9", "a": "1"}, [["device.class", "9"], ["a", "1"]], [["a", ""], ["device.class", ""], ["b", ""]])]
    events += [{"tags": {"device.class": "9", "a": "1"}}, {"contexts": {"other": {"type": "device", "family": "iOS", "model": "x"}}}]
    payloads = [json.dumps(event) for event in events]
    reference = Reference()
    differing = [(payload, unexplained(ours, reference.normalised(payload))) for payload, ours in zip(payloads, normalised(payloads))]
    differing = [(name, found) for name, found in differing if found]
    assert not differing, said(differing)


def places_of_addresses(path):
    """A small database in MaxMind's format."""
    named = lambda name: {"names": {"en": name, "de": name + "-de"}}
    writer = MMDBWriter(ip_version=6, ipv4_compatible=True, database_type="GeoLite2-City", languages=["en"])
    austria = {"country": {"iso_code": "AT", **named("Austria")}}
    writer.insert_network(IPSet(["81.2.69.0/24"]), {**austria, "city": named("Vienna"), "subdivisions": [{"iso_code": "9", **named("Vienna State")}]})
    writer.insert_network(IPSet(["2001:db8::/32"]), austria)
    writer.insert_network(IPSet(["81.2.70.0/24"]), {"city": {"names": {"de": "Wien"}}})
    writer.to_db_file(str(path))
    return str(path)


def test_places_of_addresses(tmp_path):
    """Relay's package takes a database of places and fills in nothing from this one, so there is nothing to compare with."""
    places = places_of_addresses(tmp_path / "places.mmdb")
    vienna = {"country_code": "AT", "city": "Vienna", "subdivision": "Vienna State", "region": "Austria"}
    cases = [
        ({"ip_address": "81.2.69.142"}, vienna),
        ({"ip_address": "::ffff:81.2.69.142"}, None),
        ({"ip_address": "2001:db8::1"}, {"country_code": "AT", "region": "Austria"}),
        ({"ip_address": "81.2.70.1"}, None),  # no English name
        ({"ip_address": "8.8.8.8"}, None),
        ({"ip_address": "127.0.0.1"}, None),
        ({"ip_address": "nonsense"}, None),
        ({"id": "1"}, None),
        ({"ip_address": "81.2.69.142", "geo": {"country_code": "DE"}}, {"country_code": "DE"}),
        ({"ip_address": "81.2.69.142", "geo": {}}, vienna),
        ({"ip_address": "81.2.69.142", "geo": None}, vienna),
    ]
    for (user, want), event in zip(cases, normalised([json.dumps({"user": user}) for user, _ in cases], places)):
        assert event.get("user", {}).get("geo") == want, user


def test_the_program_fills_in_places(fresh, tmp_path):
    weir = fresh(env={"WEIR_GEO__DATABASE": places_of_addresses(tmp_path / "places.mmdb")}).start()
    body, event_id = error(user={"id": "7", "ip_address": "81.2.69.142"})
    weir.send(body, weir.project)
    stored = json.loads(weir.until(f"SELECT payload AS n FROM payloads WHERE event_id = '{event_id}'", lambda got: got is not None))
    assert stored["user"]["geo"]["city"] == "Vienna"
    assert weir.stop() == 0
    (tmp_path / "none.mmdb").write_text("no database")
    for path, words in (("none.mmdb", "it is no MaxMind database"), ("missing.mmdb", "cannot be read")):
        broken = fresh(env={"WEIR_GEO__DATABASE": str(tmp_path / path)})
        assert broken.serve().process.wait(60) != 0
        assert path in broken.said() and words in broken.said(), broken.said()


def test_what_makes_no_event():
    for payload in ("{", "nonsense", '{"a":NaN}'):
        assert "error" in normalised([payload])[0], payload
