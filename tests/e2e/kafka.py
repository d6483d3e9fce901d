"""Real Apache Kafka brokers on loopback: one node in KRaft mode, or three of them, fetched from Maven Central and run with the machine's Java."""

import base64
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time

from weir import TARGET

HERE = pathlib.Path(__file__).resolve().parent.parent / "kafka"
START_S = 120
# Fast to start, small, and a crash rather than a broker that hangs.
JAVA = ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true",
        f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}"]


def jars():
    """The folder of the jars, which is filled once."""
    pom = HERE / "pom.xml"
    folder = TARGET.parent / "kafka" / hashlib.sha256(pom.read_bytes()).hexdigest()[:16]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            new = folder.with_suffix(".new")
            shutil.rmtree(new, ignore_errors=True)
            command = ["mvn", "-q", "-B", "-f", str(pom), "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies",
                       "-DincludeScope=runtime", f"-DoutputDirectory={new}"]
            for attempt in range(3):
                # -U: Maven remembers for a day what it did not find.
                ran = subprocess.run(command + (["-U"] if attempt else []), capture_output=True, text=True, timeout=900)
                if ran.returncode == 0:
                    break
            assert ran.returncode == 0, f"Kafka cannot be fetched: {(ran.stdout + ran.stderr)[-2000:]}"
            new.rename(folder)
    return folder


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def cluster_id():
    return base64.urlsafe_b64encode(os.urandom(16)).decode()[:22].replace("-", "a")


class Answer:
    """What a broker answered, read from its beginning to its end."""

    def __init__(self, answer):
        self.answer, self.at = answer, 0

    def take(self, form):
        (value,) = struct.unpack_from(">" + form, self.answer, self.at)
        self.at += struct.calcsize(">" + form)
        return value

    def text(self):
        length = max(self.take("h"), 0)
        self.at += length
        return self.answer[self.at - length : self.at].decode()

    def list(self, item):
        return [item() for _ in range(self.take("i"))]

    def number(self):
        return self.take("i")


class Broker:
    """A broker with a folder and ports of its own; a start after a stop or a kill goes on with the same data.

    `listeners` are protocols that it speaks besides plain text, each on a port of its own; `users` are those of SCRAM with their passwords.
    `voters` are the ports of the controllers by node, where it is one of several.
    """

    def __init__(self, folder, node=1, voters=None, cluster=None, listeners=(), users=None, **properties):
        self.folder, self.node, self.voters, self.cluster = pathlib.Path(folder), node, voters, cluster or cluster_id()
        self.ports = {protocol: free_port() for protocol in ("PLAINTEXT", *listeners)}
        self.users, self.properties = users or {}, properties
        self.folder.mkdir(parents=True, exist_ok=True)
        self.process = None

    def address(self, protocol="PLAINTEXT"):
        return f"127.0.0.1:{self.ports[protocol]}"

    def url(self, topic, protocol="PLAINTEXT"):
        return f"kafka://{self.address(protocol)}/{topic}"

    def _java(self, main, *args, heap="128m", level="WARN"):
        return [*JAVA, f"-Xmx{heap}", f"-Dlog.level={level}", "-cp", f"{jars()}/*", main, *args]

    def _configure(self):
        # New each time where it is alone: with voters that are configured, nothing on disk remembers it.
        voters = self.voters or {self.node: free_port()}
        listeners = ",".join(f"{protocol}://{self.address(protocol)}" for protocol in self.ports)
        settings = {
            "process.roles": "broker,controller",
            "node.id": self.node,
            "controller.quorum.voters": ",".join(f"{node}@127.0.0.1:{port}" for node, port in voters.items()),
            "listeners": f"{listeners},CONTROLLER://127.0.0.1:{voters[self.node]}",
            "advertised.listeners": listeners,
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": ",".join([*(f"{protocol}:{protocol}" for protocol in self.ports), "CONTROLLER:PLAINTEXT"]),
            "log.dirs": str(self.folder / "data"),
            "auto.create.topics.enable": "false",
            "default.replication.factor": "1",
            "min.insync.replicas": "1",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "1",
            "num.network.threads": "2",
            "num.io.threads": "4",
            "log.cleaner.dedupe.buffer.size": "4194304",
            # One that was killed may come again only when its last session is over.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            **self.properties,
        }
        path = self.folder / "server.properties"
        path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        return path

    def start(self):
        return self.begin().until_it_serves()

    def begin(self):
        """Starts it and returns at once."""
        assert not self.runs(), "it runs already"
        properties = self._configure()
        if not (self.folder / "data/meta.properties").exists():
            users = [arg for name, password in self.users.items() for arg in ("--add-scram", f"SCRAM-SHA-512=[name={name},password={password}]")]
            command = self._java("kafka.tools.StorageTool", "format", f"--cluster-id={self.cluster}", "-c", str(properties), *users)
            ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
            assert ran.returncode == 0, ran.stdout + ran.stderr
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(self._java("kafka.Kafka", str(properties), heap="256m", level="INFO"), stdout=log, stderr=subprocess.STDOUT, cwd=self.folder)
        return self

    def until_it_serves(self):
        end = time.monotonic() + START_S
        while not self.serves():
            assert self.runs(), f"the broker ended: {self.said()}"
            assert time.monotonic() < end, f"the broker does not serve after {START_S} s: {self.said()}"
            time.sleep(0.1)
        return self

    def runs(self):
        return self.process is not None and self.process.poll() is None

    def serves(self):
        """Whether the broker names itself in its metadata: from then on its partitions have leaders."""
        try:
            return self.node in self.metadata()[0]
        except OSError:
            return False

    def metadata(self, *topics):
        """The nodes that live, and {topic: {partition: (leader, replicas in sync)}}, as this broker knows them."""
        names = b"".join(struct.pack(">h", len(topic)) + topic.encode() for topic in topics)
        request = struct.pack(">hhihi", 3, 1, 1, -1, len(topics)) + names
        with socket.create_connection(("127.0.0.1", self.ports["PLAINTEXT"]), timeout=5) as connection, connection.makefile("rb") as stream:
            connection.sendall(struct.pack(">i", len(request)) + request)
            answer = stream.read(struct.unpack(">i", stream.read(4).ljust(4, b"\0"))[0])
        if not answer:
            raise ConnectionError("it ended the connection")
        answer = Answer(answer)

        def node():
            number, _host, _port, _rack = answer.number(), answer.text(), answer.number(), answer.text()
            return number

        def partition():
            _error, number, leader, _replicas = answer.take("h"), answer.number(), answer.number(), answer.list(answer.number)
            return number, (leader, answer.list(answer.number))

        def topic():
            _error, name, _internal = answer.take("h"), answer.text(), answer.take("b")
            return name, dict(answer.list(partition))

        _correlation, nodes, _controller = answer.number(), answer.list(node), answer.number()
        return nodes, dict(answer.list(topic))

    def said(self):
        log = self.folder / "log"
        return log.read_text(errors="replace")[-2000:] if log.exists() else ""

    def kill(self):
        """SIGKILL, as a crash."""
        self._end(signal.SIGKILL)

    def stop(self):
        """SIGTERM."""
        self._end(signal.SIGTERM)

    def _end(self, how):
        if self.runs():
            self.process.send_signal(how)
            self.process.wait(60)

    def tool(self, main, *args):
        """One of Kafka's own tools."""
        ran = subprocess.run(self._java(main, "--bootstrap-server", self.address(), *args), capture_output=True, text=True, timeout=120)
        assert ran.returncode == 0, f"{main} {args}: {ran.stdout}{ran.stderr}"
        return ran.stdout

    def topics(self, *args):
        return self.tool("org.apache.kafka.tools.TopicCommand", *args)

    def delete_records(self, topic, before):
        """Removes the records of partitions below offsets: {partition: offset}."""
        wanted = {"version": 1, "partitions": [{"topic": topic, "partition": partition, "offset": offset} for partition, offset in before.items()]}
        with tempfile.NamedTemporaryFile("w", suffix=".json", dir=self.folder) as file:
            json.dump(wanted, file)
            file.flush()
            return self.tool("org.apache.kafka.tools.DeleteRecordsCommand", "--offset-json-file", file.name)


class Cluster:
    """Three brokers, each a controller too. A topic has a replica on each, and takes records while two are in sync."""

    def __init__(self, folder, count=3):
        voters = {node: free_port() for node in range(1, count + 1)}
        cluster = cluster_id()
        properties = {
            "default.replication.factor": count,
            "min.insync.replicas": 2,
            # A vote is over soon after a node is dead.
            "controller.quorum.election.timeout.ms": 500,
            "controller.quorum.fetch.timeout.ms": 1000,
        }
        self.brokers = {node: Broker(pathlib.Path(folder) / str(node), node, voters, cluster, **properties) for node in voters}

    def url(self, topic):
        return f"kafka://{','.join(broker.address() for broker in self.brokers.values())}/{topic}"

    def start(self):
        """Starts those that do not run; none serves before most do."""
        begun = [broker.begin() for broker in self.brokers.values() if not broker.runs()]
        for broker in begun:
            broker.until_it_serves()
        return self

    def kill(self):
        for broker in self.brokers.values():
            broker.kill()

    def running(self):
        return [broker for broker in self.brokers.values() if broker.runs()]

    def partitions(self, topic):
        """{partition: (leader, replicas in sync)}, or nothing while those that run do not agree: one that comes back knows for a while only what was."""
        views = [broker.metadata(topic)[1].get(topic) for broker in self.running()]
        return views[0] if all(view == views[0] for view in views) else None

    def topics(self, *args):
        return self.running()[0].topics(*args)
