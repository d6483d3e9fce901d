"""A real Apache Kafka broker on loopback: one node in KRaft mode, fetched from Maven Central and run with the machine's Java."""

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


class Broker:
    """A broker with a folder and a port of its own; a start after a stop or a kill goes on with the same data."""

    def __init__(self, folder, **properties):
        self.folder, self.port, self.properties = pathlib.Path(folder), free_port(), properties
        self.folder.mkdir(parents=True, exist_ok=True)
        self.process = None

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def url(self, topic):
        return f"kafka://{self.address}/{topic}"

    def _java(self, main, *args, heap="128m", level="WARN"):
        return [*JAVA, f"-Xmx{heap}", f"-Dlog.level={level}", "-cp", f"{jars()}/*", main, *args]

    def _configure(self):
        controller = free_port()
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            # New each time: with voters that are configured, nothing on disk remembers it.
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
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
        assert self.process is None or self.process.poll() is not None, "it runs already"
        properties = self._configure()
        if not (self.folder / "data/meta.properties").exists():
            cluster = base64.urlsafe_b64encode(os.urandom(16)).decode()[:22].replace("-", "a")
            ran = subprocess.run(self._java("kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", str(properties)), capture_output=True, text=True, timeout=120)
            assert ran.returncode == 0, ran.stdout + ran.stderr
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(self._java("kafka.Kafka", str(properties), heap="256m", level="INFO"), stdout=log, stderr=subprocess.STDOUT, cwd=self.folder)
        end = time.monotonic() + START_S
        while not self.serves():
            assert self.process.poll() is None, f"the broker ended: {self.said()}"
            assert time.monotonic() < end, f"the broker does not serve after {START_S} s: {self.said()}"
            time.sleep(0.1)
        return self

    def serves(self):
        """Whether the broker names itself in its metadata: from then on its partitions have leaders."""
        request = struct.pack(">hhihi", 3, 1, 1, -1, 0)
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(struct.pack(">i", len(request)) + request)
                answer = b""
                while len(answer) < 12:
                    part = connection.recv(12 - len(answer))
                    if not part:
                        return False
                    answer += part
        except OSError:
            return False
        return struct.unpack(">iii", answer)[2] == 1

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
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(60)

    def tool(self, main, *args):
        """One of Kafka's own tools."""
        ran = subprocess.run(self._java(main, "--bootstrap-server", self.address, *args), capture_output=True, text=True, timeout=120)
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
