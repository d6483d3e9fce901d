"""Alerts reach whom they are to tell: from the acceptance of an event to webhook, Slack message and mail, whatever dies in between."""

import hashlib
import hmac
import time

import pytest
from envelopes import error
from receivers import Authority, Hook, Mailbox
from weir import free_port

FIRES = "SELECT environment, count(*) AS n FROM errors WHERE environment = '{0}' AND received > now() - INTERVAL '{1}' GROUP BY environment HAVING count(*) > 0"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def closing():
    """What a test started, closed when it ends."""
    servers = []

    def keep(server):
        servers.append(server)
        return server

    yield keep
    for server in servers:
        server.close()


def environment(authority, mailbox=None, user=""):
    env = {"WEIR_OUTBOUND__ALLOW": "127.0.0.0/8, ::1", "SSL_CERT_FILE": str(authority.roots)}
    if mailbox:
        env |= {"WEIR_MAIL__URL": f"smtp://{user}localhost:{mailbox.port}", "WEIR_MAIL__FROM": "Weir <weir@example.org>"}
    return env


def line(ran, of):
    """What `weir check` said of one thing."""
    [found] = [line for line in ran.stdout.splitlines() if f" {of}:" in line]
    return found


def test_check_says_how_mail_and_outbound_stand(fresh, authority, closing):
    plain = fresh().run("check")
    assert line(plain, "mail").startswith("ok") and "mail.url" in line(plain, "mail")
    assert "public addresses only" in line(plain, "outbound")

    box = closing(Mailbox(authority, "me", "hunter2"))
    ran = fresh(env=environment(authority, box, "me:hunter2@")).run("check")
    assert line(ran, "mail").startswith("ok") and "hunter2" not in ran.stdout + ran.stderr
    assert line(ran, "outbound") == "ok    outbound: public addresses and 127.0.0.0/8, ::1/128"

    wrong = fresh(env=environment(authority, box, "me:wrong2@")).run("check")
    assert wrong.returncode != 0 and line(wrong, "mail").startswith("BAD") and "535" in line(wrong, "mail") and "wrong2" not in wrong.stdout + wrong.stderr

    env = environment(authority, box, "me:hunter2@")
    del env["SSL_CERT_FILE"]
    distrusted = fresh(env=env).run("check")
    assert line(distrusted, "mail").startswith("BAD") and "certificate" in line(distrusted, "mail").lower()

    env = environment(authority) | {"WEIR_MAIL__URL": f"smtp://127.0.0.1:{free_port()}", "WEIR_MAIL__FROM": "weir@example.org"}
    assert line(fresh(env=env).run("check"), "mail").startswith("BAD")

    everything = fresh(env={"WEIR_OUTBOUND__ALLOW": "0.0.0.0/0"}).run("check")
    assert line(everything, "outbound").startswith("BAD") and "169.254.169.254" in line(everything, "outbound")


@pytest.mark.parametrize(
    "env, words",
    [
        ({"WEIR_OUTBOUND__ALLOW": "localhost"}, "outbound.allow"),
        ({"WEIR_MAIL__URL": "smtp://me:hunter2@mail.example.org"}, "mail.from"),
        ({"WEIR_MAIL__URL": "imap://me:hunter2@mail.example.org", "WEIR_MAIL__FROM": "a@example.org"}, "mail.url"),
    ],
)
def test_settings_that_cannot_be_used(fresh, env, words):
    ran = fresh(env=env).run("check")
    assert ran.returncode != 0 and words in ran.stderr and "hunter2" not in ran.stdout + ran.stderr, ran


def test_an_alert_is_told_by_webhook_slack_and_mail(fresh, authority, closing):
    hook, box = closing(Hook(authority=authority)), closing(Mailbox(authority, "me", "hunter2"))
    weir = fresh(env=environment(authority, box, "me:hunter2@")).start()
    notify = f"webhook:{hook.url}/hook?token=t0p, slack:{hook.url}/services/T0/B0/s3cr3t, email:pay@example.org"
    weir.query(f"CREATE SUBSCRIPTION told WITH (severity = 'critical', notify = '{notify}', secret = 'correct horse') AS " + FIRES.format("prod", "10 seconds"))
    assert "t0p" not in str(shown := weir.query("SHOW SUBSCRIPTIONS")) and "s3cr3t" not in str(shown) and "correct horse" not in str(shown)
    weir.send(error(environment="prod")[0], weir.project)

    [fired] = hook.until(1, lambda a: a.path == "/hook?token=t0p")
    body = fired.json()
    assert set(body) == {"id", "kind", "subscription", "severity", "key", "row", "event_time", "fired_time"}
    assert (body["id"], body["kind"], body["subscription"], body["severity"]) == (fired.id, "fired", "told", "critical")
    assert body["key"] == {"environment": "prod"} and body["row"] == {"environment": "prod", "n": 1}
    assert fired.headers["x-weir-signature"] == "sha256=" + hmac.new(b"correct horse", fired.body, hashlib.sha256).hexdigest()

    [slack] = hook.until(1, lambda a: a.path == "/services/T0/B0/s3cr3t")
    assert "told fired: environment=prod" in slack.json()["text"]

    [mail] = box.until(1)
    assert mail["to"] == "pay@example.org" and mail["subject"] == "[critical] told fired: environment=prod"
    assert mail["message-id"] == f"<{fired.id}@example.org>" and "prod" in mail.get_content()
    assert box.sessions == [{"tls": True, "user": "me"}]

    [fired, resolved] = hook.until(2, lambda a: a.path == "/hook?token=t0p")
    assert resolved.json()["kind"] == "resolved" and resolved.id != fired.id
    weir.until("SELECT count(*) AS n FROM alerts WHERE delivered_time >= fired_time", 2)
    assert weir.stop() == 0
    # Whoever has the catalog alone, or the log, learns no secret.
    for file in [weir.log, *weir.data.glob("catalog.sqlite*")]:
        for secret in (b"t0p", b"s3cr3t", b"correct horse", b"hunter2"):
            assert secret not in file.read_bytes(), f"{secret} is in {file.name}"


def test_the_delivery_log_is_a_table(fresh, authority, closing):
    answers = [503, 200]
    hook = closing(Hook(lambda arrived: answers.pop(0) if answers else 200))
    weir = fresh(env=environment(authority)).start()
    query = FIRES.format("prod", "1 hour").replace("environment, count", "project_id, environment, count").replace("BY environment", "BY project_id, environment")
    weir.query(f"CREATE SUBSCRIPTION logged WITH (notify = 'webhook:{hook.url}/hook?token=t0p') AS {query}")
    weir.send(error(environment="prod")[0], weir.project)
    weir.until("SELECT count(*) AS n FROM deliveries WHERE status = 'delivered'", 1)
    log = weir.query("SELECT d.*, a.kind FROM deliveries d JOIN alerts a ON a.id = d.id ORDER BY attempt")
    assert [(d["subscription"], d["project_id"], d["attempt"], d["status"], d["kind"]) for d in log] == [
        ("logged", weir.project.id, 1, "retrying", "fired"),
        ("logged", weir.project.id, 2, "delivered", "fired"),
    ]
    assert "503" in log[0]["error"] and log[1]["error"] is None and log[0]["duration_ms"] >= 0
    assert all(d["target"].startswith(f"webhook:{hook.url}/hook") and "t0p" not in d["target"] for d in log)
    assert weir.value("SELECT count(*) AS n FROM deliveries d JOIN alerts a ON a.id = d.id WHERE d.attempt_time >= a.fired_time") == 2
    # As the history: whoever may not read the project sees nothing of it.
    other = weir.create_project("elsewhere")
    tokens = {weir.project.slug: 2, other.slug: 0}
    for slug, want in tokens.items():
        assert weir.query("SELECT count(*) AS n FROM deliveries", weir.create_token(f"of-{slug}", slug)) == [{"n": want}]


def test_a_muted_alert_is_announced_when_the_mute_is_lifted(fresh, authority, closing):
    hook = closing(Hook())
    weir = fresh(env=environment(authority)).start()
    weir.query(f"CREATE SUBSCRIPTION quiet WITH (notify = 'webhook:{hook.url}/', mute_until = '2100-01-01') AS " + FIRES.format("prod", "1 hour"))
    weir.send(error(environment="prod")[0], weir.project)
    weir.until("SELECT count(*) AS n FROM alerts WHERE kind = 'fired'", 1)
    weir.kill()
    weir.start()
    weir.until("SELECT count(*) AS n FROM subscription('quiet')", 1)
    assert hook.arrived == []
    weir.query("ALTER SUBSCRIPTION quiet RESET (mute_until)")
    [told] = hook.until(1)
    assert told.json()["kind"] == "fired" and told.json()["row"] == {"environment": "prod", "n": 1}
    weir.kill()
    weir.start()
    weir.until("SELECT count(*) AS n FROM subscription('quiet')", 1)
    time.sleep(1)
    assert len(hook.arrived) == 1, "once"


def test_killed_between_sending_and_recording(fresh, authority, closing):
    answers = {"status": None}
    hook = closing(Hook(lambda arrived: answers["status"]))
    weir = fresh(env=environment(authority)).start()
    weir.query(f"CREATE SUBSCRIPTION killed WITH (notify = 'webhook:{hook.url}/') AS " + FIRES.format("prod", "1 hour"))
    weir.send(error(environment="prod")[0], weir.project)
    [first] = hook.until(1)
    weir.kill()
    answers["status"] = 200
    weir.start()
    [first, second] = hook.until(2)
    assert second.id == first.id and second.body == first.body
    weir.until("SELECT count(*) AS n FROM alerts WHERE delivered_time IS NOT NULL", 1)
    weir.kill()
    weir.start()
    # A second alert shows that this start has been through its outbox.
    weir.query(f"CREATE SUBSCRIPTION other WITH (notify = 'webhook:{hook.url}/other') AS " + FIRES.format("prod", "1 hour"))
    hook.until(1, lambda a: a.path == "/other")
    time.sleep(1)
    assert [a.id for a in hook.arrived if a.path == "/"] == [first.id] * 2, "recorded, it is not sent again, and one alert has one id"


def test_killed_between_acceptance_and_webhook(fresh, authority, closing):
    hook = closing(Hook())
    weir = fresh(env=environment(authority)).start()
    weir.query(f"CREATE SUBSCRIPTION crossing WITH (notify = 'webhook:{hook.url}/') AS " + FIRES.format("prod", "1 hour"))
    assert weir.send(error(environment="prod")[0], weir.project).status == 200
    weir.kill()
    weir.start()
    hook.until(1)
    time.sleep(1)
    kinds = [(a.json()["kind"], a.id) for a in hook.arrived]
    assert {kind for kind, _ in kinds} == {"fired"} and len({id for _, id in kinds}) == 1, kinds
