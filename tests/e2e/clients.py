"""Clients of Flight SQL that are programs of their own: the JDBC driver, and Arrow's Go client."""

import json
import os
import pathlib
import subprocess

from weir import UNTIL_S, lines

HERE = pathlib.Path(__file__).resolve().parent
CACHE = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", pathlib.Path.home() / ".cache/weir/target")).resolve().parent
JDBC = HERE.parent / "clients/jdbc"
GO = CACHE / "client-go/client"


class Client:
    """A program that answers each line with a line of JSON."""

    def __init__(self, command, write):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.answers = lines(self.process.stdout)
        self.write = write

    def say(self, *parts):
        """The answer to a command, errors included."""
        self.process.stdin.write(self.write(parts) + "\n")
        self.process.stdin.flush()
        line = self.answers.get(timeout=UNTIL_S)
        assert line, f"the client ended with {self.process.wait(10)}"
        return json.loads(line)

    def ask(self, *parts):
        """The answer to a command that must succeed."""
        answer = self.say(*parts)
        assert "error" not in answer, (parts, answer)
        return answer

    def rows(self, *parts):
        return self.ask(*parts)["rows"]

    def names(self, *parts, column):
        """One column of the rows, by its name."""
        answer = self.ask(*parts)
        at = [name.lower() for name, _ in answer["columns"]].index(column.lower())
        return [row[at] for row in answer["rows"]]

    def close(self):
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


def jdbc(weir, token, user=None):
    home = CACHE / "jdbc"
    subprocess.run([JDBC / "fetch", home], check=True)
    url = f"jdbc:arrow-flight-sql://127.0.0.1:{weir.flight}/?useEncryption=false"
    command = ["java", "--add-opens=java.base/java.nio=ALL-UNNAMED", "-cp", str(home / "driver.jar"), str(JDBC / "Client.java"), url, token]
    return Client(command + ([user] if user else []), "\t".join)


def go(weir, token, user=None):
    assert GO.exists(), f"there is no {GO}: tests/run builds it"
    return Client([GO, f"127.0.0.1:{weir.flight}", token] + ([user] if user else []), json.dumps)
