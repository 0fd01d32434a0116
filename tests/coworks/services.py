"""Technical microservices as CoWorks itself makes them, in the three ways they are met.

- Served by Flask, as `cws run` serves one on a developer's machine.
- As Lambdas behind a gateway: what a Lambda is called with, and what becomes of its answer, is
  evaluated from the very mapping templates that CoWorks deploys to API Gateway
  (`coworks/cws/templates/terraform/request_templates.j2` and `response_templates.j2`). An `Event`
  call is accepted, and runs in a thread of its own; CoWorks' own code leaves its answer in S3.
- The directory that knows them by their names, a microservice too.

Every request is recorded as it came over the wire.
"""
import base64
import io
import json
import re
import threading
import time
import urllib.parse
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as Late

import airspeed
import jinja2
from coworks import TechMicroService, entry
from coworks.utils import get_cws_annotations
from flask import jsonify
from werkzeug.exceptions import BadRequest, HTTPException, NotFound
from werkzeug.serving import WSGIRequestHandler, make_server

TOKEN = "7Qd2-the-token-of-the-services"
DIRECTORY_TOKEN = "x81P-the-token-of-the-directory"

# What the entries return: the source of all that is expected of a call.
TEXT = "plain words, \"quoted\"\nover two lines"
UNICODE_TEXT = "déjà vu, 東京 \U0001f600"
UNICODE = {"prénom": "Zoë", "ville": "東京", "list": ["ß", "\U0001f600", "\u2028"]}
DICT = {"id": 7, "rate": 0.1, "tags": ["a", "b"], "none": None, "yes": True, "deep": {"er": [[]]}, "big": 2**53 + 1}
LIST = [1, "two", None, {"three": [3.0]}]
BINARY = bytes(range(256)) * 64
# Bytes of a type of their own, which look like the envelope of a stored answer and are none.
DISGUISED = b'{"statusCode": 200, "headers": {}, "body": "no"}'
# Bytes that are a text: CoWorks stores them as one.
CSV = "article;prix\nété;1,50\n".encode()
LARGE_TEXT = "0123456789abcdef é\n" * 1_000_000  # 20 MB
LARGE_JSON = [{"line": n, "text": "0123456789abcdef" * 40} for n in range(30_000)]  # 20 MB


class Suite(TechMicroService):
    """An entry for each thing that an entry can answer, and for each that it can take."""

    def __init__(self, **kwargs):
        super().__init__(name="suite", **kwargs)
        self.calls = Counter()
        self.lock = threading.Lock()

    def nth(self, name):
        with self.lock:
            self.calls[name] += 1
            return self.calls[name]

    # Answers.

    @entry
    def get_text(self):
        return TEXT

    @entry
    def get_unicode(self):
        return UNICODE

    @entry
    def get_unicode_text(self):
        return UNICODE_TEXT

    @entry
    def get_dict(self):
        return DICT

    @entry
    def get_list(self):
        return LIST

    @entry
    def get_number(self):
        return jsonify(12.5)

    @entry
    def get_numeral(self):
        return "42"

    @entry
    def get_zeros(self):
        return "0042"

    @entry
    def get_null(self):
        return jsonify(None)

    @entry
    def get_empty(self):
        return ""

    @entry
    def get_nothing(self):
        return None

    @entry
    def get_created(self):
        return {"created": True}, 201, {"X-Of-The-Service": "yes"}

    @entry(binary_headers={"Content-Type": "application/octet-stream"})
    def get_binary(self):
        return BINARY

    @entry(binary_headers={"Content-Type": "application/octet-stream"})
    def get_disguised(self):
        return DISGUISED, 200, {"Content-Type": "application/octet-stream"}

    @entry(binary_headers={"Content-Type": "text/csv"})
    def get_csv(self):
        return CSV

    @entry(binary_headers={"Content-Type": "application/pdf"})
    def get_document(self, number):
        if number == "0":
            raise NotFound("no such document")
        return b""

    @entry
    def get_large_text(self):
        return LARGE_TEXT

    @entry
    def get_large_json(self):
        return LARGE_JSON

    @entry
    def get_slow(self, seconds: float = 0.0):
        time.sleep(seconds)
        return {"slept": seconds}

    @entry(no_auth=True)
    def get_open(self):
        return {"open": True}

    # Refusals.

    @entry
    def get_refuse(self, status):
        return {"refused": int(status)}, int(status)

    @entry
    def get_bad(self):
        raise BadRequest("not like that")

    @entry
    def get_missing(self):
        return "no such customer", 404

    @entry
    def get_raise(self):
        raise RuntimeError("a bug of the service")

    @entry
    def get_vanish(self):
        """Ends as a Lambda does that is out of time or of memory: without a word."""
        raise SystemExit

    @entry
    def get_transient(self, name):
        nth = self.nth(f"transient {name}")
        return {"nth": nth}, 503 if nth == 1 else 200

    @entry
    def get_busy(self, name):
        nth = self.nth(f"busy {name}")
        return {"nth": nth}, 503 if nth == 1 else 200, {"Retry-After": "1"}

    @entry
    def get_count(self, name):
        return {"nth": self.nth(f"count {name}")}

    @entry
    def get_job(self, name):
        return {"state": "done" if self.nth(f"job {name}") > 2 else "running"}

    # What is taken, told again.

    @entry
    def get_query(self, page: int = None, tag: list[str] = None, note: str = None, text: str = None):
        return {"page": page, "tag": tag, "note": note, "text": text}

    @entry
    def get_orders(self, number, line):
        return {"number": number, "line": line}

    @entry
    def post_json(self, name=None, lines=None, none="not sent"):
        return {"name": name, "lines": lines, "none": none}

    @entry
    def put_json(self, name=None):
        return {"put": name}

    @entry
    def patch_json(self, name=None):
        return {"patched": name}

    @entry
    def delete_json(self, name=None):
        return {"deleted": name}

    @entry
    def post_any(self, value=None):
        return {"value": value}

    @entry
    def post_form(self, name: str = None, tag: list[str] = None):
        return {"name": name, "tag": tag}

    @entry
    def get_item(self, n):
        return {"item": int(n)}


class Directory(TechMicroService):
    """Knows the services by their names."""

    def __init__(self, known, **kwargs):
        super().__init__(name="directory", **kwargs)
        self.known = known

    def token_authorizer(self, token):
        return token == DIRECTORY_TOKEN

    @entry
    def get(self, name, stage: str = "prod"):
        if name == "suite-broken":
            return self.known["never"]  # As the original, with a 500.
        if (name, stage) not in self.known:
            raise NotFound()
        url, tokens = self.known[name, stage]
        # The tokens one after the other, and the last of them for good.
        token = tokens.pop(0) if len(tokens) > 1 else tokens[0]
        return {"token": token, "url": url}


class Seen:
    """A request as it came."""

    def __init__(self, environ):
        self.at = time.monotonic()
        self.method = environ["REQUEST_METHOD"]
        self.target = environ["REQUEST_URI"]
        self.path, _, self.query = self.target.partition("?")
        self.headers = {
            name.removeprefix("HTTP_").replace("_", "-").lower(): value
            for name, value in environ.items()
            if name.startswith("HTTP_") or name in ("CONTENT_TYPE", "CONTENT_LENGTH")
        }
        length = int(self.headers.get("content-length") or 0)
        self.body = environ["wsgi.input"].read(length)
        environ["wsgi.input"] = io.BytesIO(self.body)

    @property
    def task(self):
        """The task that asked: it stands in the name of the call, before the map index."""
        return re.match(r".*/(.+?)\.-?\d+\.", self.headers["idempotency-key"])[1]

    def __repr__(self):
        return f"{self.method} {self.target} {self.headers} {self.body[:200]!r}"


class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_):
        pass


class Server:
    """A WSGI application on a free port of this machine, with all that it was asked."""

    def __init__(self, app):
        self.seen = []
        self.app = app
        self.http = make_server("127.0.0.1", 0, self.record, threaded=True, request_handler=Quiet)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def record(self, environ, start_response):
        self.seen.append(Seen(environ))
        return self.app(environ, start_response)

    def take(self):
        """What was asked since the last time."""
        taken, self.seen = self.seen, []
        return taken


class Name(str):
    """A text with the method of Java's that the templates use."""

    def toLowerCase(self):
        return self.lower()


class Util:
    """`$util` of a mapping template."""

    @staticmethod
    def escapeJavaScript(text):
        return json.dumps(str(text))[1:-1]


class Asked:
    """`$input` of a request template."""

    def __init__(self, headers, path, query, body):
        self.parameters = {
            "header": {Name(name): value for name, value in headers.items()},
            "path": path,
            "querystring": {name: values[-1] for name, values in query.items()},
        }
        self.body = body.decode()

    def params(self):
        return self.parameters

    def json(self, _):
        """The body as JSON; API Gateway gives an object for none."""
        return json.dumps(json.loads(self.body)) if self.body else "{}"


class Answered:
    """`$input` of a response template."""

    def __init__(self, answer):
        self.answer = answer

    def path(self, _):
        return self.answer

    def json(self, _):
        return json.dumps(self.answer["body"])


def templates(name, end):
    """The mapping templates of CoWorks, by content type. They are rendered as `cws deploy` does
    (`coworks/cws/deploy.py`, `jinja_env`)."""
    env = jinja2.Environment(loader=jinja2.PackageLoader("coworks.cws"), trim_blocks=True, lstrip_blocks=True)
    text = env.get_template(f"terraform/{name}").render()
    found = re.findall(rf'"([^"]+)" = <<-{end}\n(.*?)\n\s*{end}\b', text, re.DOTALL)
    return {kind: airspeed.Template(template) for kind, template in found}


# Of `binary_media_types` in `coworks/cws/templates/terraform/rest_api.j2`.
BINARY_TYPES = ["multipart/form-data", "application/octet-stream", "application/pdf"]


class Gateway:
    """API Gateway, as CoWorks configures it, before Lambdas. Services are at `/{api_id}/{stage}`."""

    def __init__(self, lambdas, longest):
        self.lambdas = lambdas
        self.longest = longest
        self.requests = templates("request_templates.j2", "EOT")
        self.responses = templates("response_templates.j2", "EOF")
        self.threads = ThreadPoolExecutor(64)
        self.events = []
        for app in lambdas.values():
            # The first that a Lambda hears of is a token; it makes it known that it is one.
            self.lets_in(app, "")

    def __call__(self, environ, start_response):
        seen = Seen(environ)
        status, headers, body = self.answer(seen)
        if status == 204:
            headers, body = {}, b""
        # The gateway hands the service's length on under another name: the body may have changed.
        headers = [(name, value) for name, value in headers.items() if name.lower() != "content-length"]
        start_response(f"{status} Of The Gateway", [*headers, ("Content-Length", str(len(body)))])
        return [body]

    @staticmethod
    def lets_in(app, token):
        """The authorizer of `rest_api.j2`: the Lambda itself, which answers with a policy."""
        policy = app({"type": "TOKEN", "authorizationToken": token, "methodArn": "arn:aws:of:the:method"}, {})
        return policy["policyDocument"]["Statement"][0]["Effect"] == "Allow"

    def answer(self, seen):
        def own(status, text):
            return status, {"Content-Type": "application/json"}, json.dumps({"message": text}).encode()

        _, api_id, stage, *entry = seen.path.split("/", 3)
        app = self.lambdas.get((api_id, stage))
        path = urllib.parse.unquote("/" + "".join(entry))
        try:
            # The resources of the API are the rules of the app (`deploy.py`, `api_resources`).
            rule, parameters = app.url_map.bind("").match(path, seen.method, return_rule=True)
        except (AttributeError, HTTPException):
            return own(403, "Missing Authentication Token")
        view = app.view_functions[rule.endpoint]
        if not get_cws_annotations(view, "__CWS_NO_AUTH"):
            token = seen.headers.get("authorization")
            if not token:
                return own(401, "Unauthorized")
            if not self.lets_in(app, token):
                return own(403, "User is not authorized to access this resource")
        # Without a type it is JSON; what has no template is refused: `passthrough_behavior = "NEVER"`.
        kind = seen.headers.get("content-type", "application/json").partition(";")[0].strip()
        if kind not in self.requests:
            return own(415, "Unsupported Media Type")
        event = self.event(self.requests[kind], seen, stage, rule, parameters)
        if seen.headers.get("invocationtype") == "Event":
            # `X-Amz-Invocation-Type` of the integration: Lambda queues it and has nothing to say yet.
            self.events.append(event)
            self.threads.submit(app, event, {})
            return 200, {"Content-Type": "application/json"}, b""
        try:
            answer = self.threads.submit(app, event, {}).result(self.longest)
        except Late:
            return own(504, "Endpoint request timed out")
        except SystemExit:
            return own(502, "Internal server error")
        binary = get_cws_annotations(view, "__CWS_BINARY_HEADERS")
        accept = seen.headers.get("accept", "application/json").partition(",")[0].strip()
        if binary:
            # No template: the payload itself, of whose base64 a binary `Accept` gets the bytes.
            if accept in BINARY_TYPES:
                return 200, dict(binary), base64.b64decode(answer)
            return 200, dict(binary), json.dumps(answer).encode()
        overrides = {"responseOverride": {}}
        template = self.responses.get(accept) or self.responses["application/json"]
        text = template.merge({"input": Answered(answer), "context": overrides})
        override = overrides["responseOverride"]
        return override["status"], dict(override["header"]), text.strip(" ").encode()

    @staticmethod
    def event(template, seen, stage, rule, parameters):
        query = urllib.parse.parse_qs(seen.query, keep_blank_values=True)
        text = template.merge({
            "input": Asked(seen.headers, parameters, query, seen.body),
            "util": Util,
            "method": {"request": {"multivaluequerystring": query}},
            "context": {
                "resourcePath": rule.rule.replace("<", "{").replace(">", "}"),
                "httpMethod": seen.method,
                "stage": stage,
                "path": seen.path,
                "protocol": "HTTP/1.1",
                "domainName": "suite.execute-api.eu-west-1.amazonaws.com",
                "requestTimeEpoch": int(time.time() * 1000),
            },
        })
        return json.loads(text)


class World:
    """All of it, running."""

    def __init__(self, longest=2.0):
        # In Flask, and a Lambda in two stages. The stage `dev` is deployed with FLASK_DEBUG
        # (`coworks/cws/templates/terraform/lambda.j2`): what raises there leaves no answer.
        self.flask_app, self.prod_app, self.dev_app = Suite(), Suite(), Suite()
        self.dev_app.debug = True
        self.lambdas = Gateway({("suite", "prod"): self.prod_app, ("suite", "dev"): self.dev_app}, longest)
        self.flask = Server(self.flask_app)
        self.gateway = Server(self.lambdas)
        self.directory_app = Directory({
            ("suite-flask", "prod"): (self.flask.url, [TOKEN]),
            ("suite-lambda", "prod"): (f"{self.gateway.url}/suite/prod", [TOKEN]),
            ("suite-lambda", "dev"): (f"{self.gateway.url}/suite/dev", [TOKEN]),
            ("suite-without-token", "prod"): (self.flask.url, [None]),
            ("suite-renewed", "flask"): (self.flask.url, ["an-old-token", TOKEN]),
            ("suite-renewed", "lambda"): (f"{self.gateway.url}/suite/prod", ["an-old-token", TOKEN]),
        })
        self.directory = Server(self.directory_app)
        for app in (self.flask_app, self.directory_app):
            # CoWorks makes its routes at the first request, and two at once would make them twice.
            app.app_context()

    def take(self):
        """What the services were asked since the last time."""
        return self.flask.take() + self.gateway.take()
