"""Stand-ins for what answers by HTTP on an ECS host.

imds    the instance metadata service, in the namespace `up`: versions 1 and 2
agent   the ECS agent: task credentials on 127.0.0.1:51679, introspection on *:51678
"""

import json
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ROLE = "/latest/meta-data/iam/security-credentials/"


def keys(name):
    return json.dumps({"AccessKeyId": name, "SecretAccessKey": "secret", "Token": "token"})


class Imds(BaseHTTPRequestHandler):
    def do_PUT(self):
        self.answer(200 if self.path == "/latest/api/token" else 404, "the-token")

    def do_GET(self):
        if self.path == ROLE:
            self.answer(200, "the-role")
        elif self.path.startswith(ROLE):
            self.answer(200, keys("of-the-instance"))
        else:
            self.answer(200, "answered by the network")

    def answer(self, code, text):
        body = text.encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Credentials(Imds):
    def do_GET(self):
        self.answer(200, keys("of-the-task"))


class Introspection(Imds):
    def do_GET(self):
        self.answer(200, json.dumps({"Cluster": "test"}))


class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True

    def __init__(self, address, handler):
        if ":" not in address[0]:
            self.address_family = socket.AF_INET
        super().__init__(address, handler)


def serve(*servers):
    for server in servers[1:]:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    servers[0].serve_forever()


if sys.argv[1] == "imds":
    serve(Server(("::", 80), Imds))
else:
    serve(Server(("127.0.0.1", 51679), Credentials), Server(("::", 51678), Introspection))
