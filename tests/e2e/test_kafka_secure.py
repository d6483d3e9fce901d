"""The journal on a broker of Kafka behind TLS, with passwords (SCRAM) or with certificates of clients; and what is said where they are wrong."""

import pytest
from certificates import Authority
from envelopes import error
from kafka import Broker
from test_kafka import health, post, send, until
from test_restart import check_exactly_once

USER, PASSWORD, WRONG = "weir", "correct-horse", "battery-staple"
KAFKA = "WEIR_JOURNAL__KAFKA__"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def another(tmp_path_factory):
    """An authority that signed nothing of the broker's."""
    return Authority(tmp_path_factory.mktemp("another"), "Another")


@pytest.fixture(scope="module")
def broker(tmp_path_factory, authority):
    """SASL_SSL asks for a password, SSL for a certificate; in plain text it speaks with the tests."""
    made = Broker(
        tmp_path_factory.mktemp("kafka"),
        listeners=("SASL_SSL", "SSL"),
        users={USER: PASSWORD},
        **{
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": authority.keystore("broker"),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": authority.certificate,
            "listener.name.ssl.ssl.client.auth": "required",
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
        },
    )
    try:
        yield made.start()
    finally:
        made.kill()


@pytest.fixture
def with_password(authority):
    """Properties of journal.kafka, as variables."""
    return {
        KAFKA + "SECURITY__PROTOCOL": "SASL_SSL",
        KAFKA + "SASL__MECHANISM": "SCRAM-SHA-512",
        KAFKA + "SASL__USERNAME": USER,
        KAFKA + "SASL__PASSWORD": PASSWORD,
        KAFKA + "SSL__CA__LOCATION": str(authority.certificate),
    }


@pytest.fixture
def with_certificate(authority):
    key, certificate = authority.sign("client")
    return {
        KAFKA + "SECURITY__PROTOCOL": "SSL",
        KAFKA + "SSL__CA__LOCATION": str(authority.certificate),
        KAFKA + "SSL__KEY__LOCATION": str(key),
        KAFKA + "SSL__CERTIFICATE__LOCATION": str(certificate),
    }


def on(fresh, broker, topic, env):
    return fresh(env={"WEIR_JOURNAL__URL": broker.url(topic, env[KAFKA + "SECURITY__PROTOCOL"]), **env})


def said(weir):
    """What is shown to whom: health, and the log."""
    return weir.get("/_health/?full").text() + weir.said()


def until_explained(weir, *words):
    """Each of the words is in the health's error, which an SDK and the log are told, too."""
    report = until("explained", lambda: (report := health(weir))["journal"]["error"] and all(word in report["journal"]["error"] for word in words) and report)
    assert not report["healthy"]
    assert "check that Kafka runs, that journal.url names it, and that journal.kafka has what it asks for" in report["journal"]["error"]
    answer = post(weir, weir.project, error()[0])
    assert answer.status == 503 and words[0] in answer.text(), answer.text()
    assert words[0] in weir.said()
    assert weir.process.poll() is None


@pytest.mark.parametrize("how", ["with_password", "with_certificate"])
def test_events_go_through_tls_and_are_there_once(fresh, broker, topic, how, request):
    weir = on(fresh, broker, topic, request.getfixturevalue(how)).start()
    acknowledged = send(weir, weir.project, 20)
    check_exactly_once(weir, acknowledged)
    for end in (weir.stop, weir.kill):
        end()
        weir.start()
        check_exactly_once(weir, acknowledged)
        acknowledged |= send(weir, weir.project, 5)
    # The broker may be gone meanwhile: the connections are made anew, with all that they need.
    broker.kill()
    until("unhealthy", lambda: not health(weir)["healthy"])
    broker.start()
    until("healthy", lambda: health(weir)["healthy"])
    acknowledged |= send(weir, weir.project, 5)
    check_exactly_once(weir, acknowledged)
    assert len(acknowledged) == 35
    assert PASSWORD not in said(weir)


def test_a_wrong_password_is_named_and_the_right_one_goes_on(fresh, broker, topic, with_password):
    weir = on(fresh, broker, topic, {**with_password, KAFKA + "SASL__PASSWORD": WRONG}).serve()
    until("open", lambda: health(weir))
    until_explained(weir, "Authentication failed", "invalid credentials", "SCRAM-SHA-512")
    assert WRONG not in said(weir)
    assert weir.stop() == 0
    weir.env[KAFKA + "SASL__PASSWORD"] = PASSWORD
    weir.start()
    acknowledged = send(weir, weir.project, 5)
    check_exactly_once(weir, acknowledged)
    # Queries are answered although the password is wrong again.
    assert weir.stop() == 0
    weir.env[KAFKA + "SASL__PASSWORD"] = WRONG
    weir.serve()
    until("open", lambda: health(weir))
    until_explained(weir, "Authentication failed")
    weir.until("SELECT count(*) AS n FROM errors", len(acknowledged))


def test_a_mechanism_that_the_broker_does_not_offer_is_named(fresh, broker, topic, with_password):
    weir = on(fresh, broker, topic, {**with_password, KAFKA + "SASL__MECHANISM": "PLAIN"}).serve()
    until("open", lambda: health(weir))
    until_explained(weir, "Unsupported SASL mechanism", "SCRAM-SHA-512")
    assert PASSWORD not in said(weir)


@pytest.mark.parametrize("how", ["another authority", "none", "another name"])
def test_a_certificate_of_the_broker_that_cannot_be_trusted(fresh, broker, topic, another, with_password, how):
    env = {**with_password, KAFKA + "BROKER__ADDRESS__FAMILY": "v4"}
    if how == "another authority":
        env[KAFKA + "SSL__CA__LOCATION"] = str(another.certificate)
    elif how == "none":
        del env[KAFKA + "SSL__CA__LOCATION"]
    weir = on(fresh, broker, topic, env)
    if how == "another name":
        weir.env["WEIR_JOURNAL__URL"] = weir.env["WEIR_JOURNAL__URL"].replace("127.0.0.1", "localhost")
    weir.serve()
    until("open", lambda: health(weir))
    until_explained(weir, "certificate verify failed", "broker certificate could not be verified", "ssl.ca.location")
    # It was not sent to a broker that nobody vouches for, nor shown.
    assert PASSWORD not in said(weir)


def test_a_client_without_a_certificate_where_one_is_asked_for(fresh, broker, topic, with_certificate):
    env = {name: value for name, value in with_certificate.items() if not name.startswith((KAFKA + "SSL__KEY", KAFKA + "SSL__CERTIFICATE"))}
    weir = on(fresh, broker, topic, env).serve()
    until("open", lambda: health(weir))
    until_explained(weir, "bad certificate")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("SASL__PASSWORD", None, "sasl.username and sasl.password must be set"),
        ("SSL__CA__LOCATION", "/nowhere/ca.pem", "ssl.ca.location failed"),
        ("SSL__CA__LOCATION", __file__, "ssl.ca.location failed"),
    ],
    ids=["no password", "no file of the authority", "another file"],
)
def test_a_start_without_what_is_needed_is_refused(fresh, broker, topic, with_password, name, value, words):
    env = {**with_password, KAFKA + name: value}
    weir = on(fresh, broker, topic, {name: value for name, value in env.items() if value is not None}).serve()
    assert weir.process.wait(60) == 1
    assert "journal.kafka" in weir.said() and words in weir.said()
