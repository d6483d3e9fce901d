"""Who alerts are sent to: a web server and a mail server (aiosmtpd) on the loopback address, and a certificate authority of their own."""

import dataclasses
import email
import email.policy
import http.server
import json
import ssl
import threading

import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult
from weir import UNTIL_S, free_port, until


class Authority:
    """Certificates for localhost, and the file that makes a program trust them."""

    def __init__(self, folder):
        self.ca = trustme.CA()
        self.roots = folder / "roots.pem"
        self.ca.cert_pem.write_to_path(str(self.roots))
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.ca.issue_cert("localhost", "127.0.0.1").configure_cert(self.context)


@dataclasses.dataclass
class Arrived:
    """A request as it arrived."""

    path: str
    headers: dict
    body: bytes

    def json(self):
        return json.loads(self.body)

    @property
    def id(self):
        return self.headers["idempotency-key"]


class Hook:
    """A web server that keeps what is posted to it. `answer` is given each request and gives its status; None: it never answers."""

    def __init__(self, answer=lambda arrived: 200, authority=None):
        self.answer, self.arrived, self.closing = answer, [], threading.Event()
        hook = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                arrived = Arrived(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                hook.arrived.append(arrived)
                status = hook.answer(arrived)
                if status is None:
                    hook.closing.wait(UNTIL_S)
                    return
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                """A sender that was killed in the middle is nothing to report."""

        self.server = Server(("127.0.0.1", 0), Handler)
        if authority:
            self.server.socket = authority.context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"http{'s' if authority else ''}://localhost:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def until(self, count, of=lambda arrived: True):
        """Waits until so many requests of a kind arrived; returns these."""
        return until(lambda: [a for a in list(self.arrived) if of(a)], lambda found: len(found) >= count)

    def close(self):
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()


class Mailbox:
    """A mail server that keeps what it is sent. With a user it demands a login, and with that encryption."""

    def __init__(self, authority=None, user=None, password=None):
        self.mails, self.sessions = [], []
        box = self

        class Handler:
            async def handle_DATA(self, server, session, envelope):
                box.sessions.append({"tls": session.ssl is not None, "user": session.auth_data})
                box.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
                return "250 taken"

        def login(server, session, envelope, mechanism, data):
            given = (data.login.decode(), data.password.decode())
            return AuthResult(success=given == (user, password), handled=False, auth_data=given[0])

        class Demanding(Controller):
            def factory(self):
                options = {"tls_context": authority.context, "require_starttls": bool(user)} if authority else {}
                return SMTP(self.handler, hostname="localhost", authenticator=login if user else None, auth_required=bool(user), **options)

        self.port = free_port()
        self.controller = Demanding(Handler(), hostname="127.0.0.1", port=self.port)
        self.controller.start()

    def until(self, count):
        return until(lambda: list(self.mails), lambda found: len(found) >= count)

    def close(self):
        self.controller.stop()
