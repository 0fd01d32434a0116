"""A run of a biz, the requests that it sent, and how they are held against what is expected."""
import json
import re
import subprocess
import sys
import time
from collections import Counter
from datetime import datetime

from original import Original
from services import TOKEN

BUCKET = "coworks-airflow"


class Here:
    """What all runs have in common. `compare.py` fills it in."""

    program = home = environment = world = s3 = None
    compared = 0
    differences = []


def short(value):
    text = repr(value)
    return text if len(text) <= 600 else f"{text[:300]} .. {text[-280:]} ({len(text)} characters)"


def check(what, found, expected):
    """Notes a difference, and goes on. `1`, `1.0` and `True` are three things here."""
    Here.compared += 1
    found_json, expected_json = (json.dumps(value, sort_keys=True, default=repr) for value in (found, expected))
    if found_json != expected_json:
        Here.differences.append(f"{what}\n    found    {short(found)}\n    expected {short(expected)}")


def holds(what, text, *parts):
    """The same of the pieces that a message must have."""
    for part in parts:
        check(f"{what}: {part!r} is in {short(text)}", part in str(text), True)


def command(biz, database):
    return [Here.program, "run", biz, "--output", "json", "--db", f"{Here.home}/{database}"]


class Run:
    """A run of a biz, and the requests that it sent."""

    numbers = Counter()
    keys = set()

    def __init__(self, biz, conf=None, database="biz.db", exit_code=0, more=(), variables=()):
        arguments = [*command(biz, database), "--timeout", "2m", *more]
        if conf is not None:
            arguments += ["--conf", json.dumps(conf)]
        Here.world.take()
        Here.world.directory.take()
        began = time.monotonic()
        env = {**Here.environment, **dict(variables)}
        ended = subprocess.run(arguments, capture_output=True, text=True, env=env, cwd=Here.home)
        self.lasted = time.monotonic() - began
        self.biz, self.seen, self.log = biz, Here.world.take(), ended.stderr
        self.looked_up = Here.world.directory.take()
        try:
            run = json.loads(ended.stdout)
        except ValueError:
            sys.exit(f"`run {biz}` ended with {ended.returncode} and without a run:\n{ended.stderr}")
        self.tasks = {}
        for task in run["tasks"]:
            index = "" if task["map_index"] < 0 else f"[{task['map_index']}]"
            self.tasks[task["task_id"] + index] = task
        log = f"\n{ended.stderr}" if ended.returncode != exit_code else ""
        check(f"{biz}: exit code{log}", ended.returncode, exit_code)
        check(f"{biz}: state", run["state"], "failed" if exit_code else "success")
        Run.numbers[database] += 1
        start = datetime.fromisoformat(run["start_date"])
        self.original = Original(Run.numbers[database], start)

    def name(self, task):
        return f"{self.biz}: {task}"

    def xcom(self, task):
        return self.tasks[task]["xcom"]

    def state(self, task, state, tries):
        check(f"{self.name(task)}: state", self.tasks[task]["state"], state)
        check(f"{self.name(task)}: tries", self.tasks[task]["try_number"], tries)

    def asked(self, task):
        """The requests of a task."""
        return [seen for seen in self.seen if seen.task == task]

    def answer(self, task, value, status=200, cws_name=None, tries=1):
        """A call that succeeded, with all its XComs; of an asynchronous one, of all its tasks."""
        if task in self.tasks:
            xcom = {"cws_name": cws_name, "status_code": status, "return_value": value}
            self.pushed(task, xcom, tries)
            return
        bucket, key = (self.asked(f"{task}.call")[0].headers[name] for name in ("x-cws-s3bucket", "x-cws-s3key"))
        self.pushed(f"{task}.call", {"cws_name": cws_name, "bucket": bucket, "key": key})
        self.pushed(f"{task}.wait", {})
        self.pushed(f"{task}.read", {"status_code": status, "return_value": value}, tries)

    def pushed(self, task, xcom, tries=1):
        self.state(task, "success", tries)
        found = dict(self.xcom(task))
        if xcom.get("status_code", 0) >= 400:
            # Ours alone: what a failure's headers were.
            check(f"{self.name(task)}: has headers", bool(found.pop("headers", None)), True)
        check(f"{self.name(task)}: XComs", found, xcom)

    def fails(self, task, *parts, tries=1):
        self.state(task, "failed", tries)
        holds(f"{self.name(task)}: error", self.tasks[task]["error"], *parts)

    def never(self, *tasks):
        for task in tasks:
            self.state(task, "upstream_failed", 0)

    def as_the_original(self, task, **arguments):
        """A call beside the same one by CoWorks' own client: what was sent, and what was pushed."""
        asynchronous = task not in self.tasks
        sender, reader = (f"{task}.call", f"{task}.read") if asynchronous else (task, task)
        Here.world.take()
        Here.world.directory.take()
        ours = self.asked(sender)[0]
        send = self.original.group if asynchronous else self.original.call
        send(task, token=TOKEN, **arguments)
        (theirs,) = Here.world.take()
        what = f"{self.name(task)} beside the original"
        for part in ("method", "path", "query"):
            check(f"{what}: {part}", getattr(ours, part), getattr(theirs, part))
        check(f"{what}: body", *(payload(seen) for seen in (ours, theirs)))
        check(f"{what}: headers", *(headers_that_count(seen) for seen in (ours, theirs)))
        for of, keys in ((sender, ("cws_name", "bucket")), (reader, ("status_code", "return_value"))):
            found, expected = ({key: xcom.get(key) for key in keys} for xcom in (self.xcom(of), self.original.xcom(of)))
            check(f"{what}: XComs of {of}", found, expected)
        # The original looks a service up before each call, a run of ours once.
        ours, theirs = (
            {(seen.method, seen.target, seen.headers.get("authorization")) for seen in lookups}
            for lookups in (self.looked_up, Here.world.directory.take())
        )
        check(f"{what}: {theirs} is among {ours}", theirs <= ours, True)


def payload(seen):
    """A body. JSON may be escaped in more than one way."""
    if seen.headers["content-type"] == "application/json" and seen.body:
        return json.loads(seen.body)
    return seen.body


def headers_that_count(seen):
    """The headers without those that each HTTP client has of its own; of the key only that there is one."""
    own = ("host", "user-agent", "accept-encoding", "connection", "idempotency-key")
    headers = {name: value for name, value in sorted(seen.headers.items()) if name not in own}
    if headers["content-type"] == "application/json" and seen.body:
        headers["content-length"] = "of its own JSON"
    if "x-cws-s3key" in headers:
        headers["x-cws-s3key"] = "its own"
    return headers


def headers_are_right(run, more=None):
    """Every request of a run has these headers and no others."""
    names = set()
    for seen in run.seen:
        headers = headers_that_count(seen)
        what = f"{run.name(seen.task)}: header"
        asynchronous = seen.task.endswith(".call")
        given = {"content-length", "accept", "content-type", "x-amzn-trace-id", *((more or {}).get(seen.task, ()))}
        expected = {
            **{name: value for name, value in headers.items() if name in given},
            "authorization": TOKEN,
            **({"invocationtype": "Event", "x-cws-s3bucket": BUCKET, "x-cws-s3key": "its own"} if asynchronous else {}),
        }
        check(f"{what}s", headers, expected)
        form = re.fullmatch(r"Root=1-[0-9a-f]{8}-637773(3[0-9]){9}", headers["x-amzn-trace-id"])
        check(f"{what} x-amzn-trace-id {headers['x-amzn-trace-id']}", bool(form), True)
        name = seen.headers["idempotency-key"]
        names.add(name.split("/")[0])
        check(f"{what} idempotency-key", name.endswith(f"/{seen.task}.-1.0"), True)
        if asynchronous:
            key = seen.headers["x-cws-s3key"]
            check(f"{what} x-cws-s3key {key}", key.startswith("s3/biz-") and key.endswith(name), True)
            check(f"{what} x-cws-s3key {key} is that of no other call", key in Run.keys, False)
            Run.keys.add(key)
    check(f"{run.biz}: one name of the run in all calls", len(names), 1)
    check(f"{run.biz}: one trace", len({seen.headers["x-amzn-trace-id"] for seen in run.seen}), 1)


def objects(bucket=BUCKET):
    return sorted(found["Key"] for found in Here.s3.list_objects_v2(Bucket=bucket).get("Contents", []))


def until_there_is(key):
    """Waits for an object, the only one, that CoWorks stores."""
    deadline = time.monotonic() + 30
    while not objects() and time.monotonic() < deadline:
        time.sleep(0.1)
    check("what CoWorks stored", objects(), [key])


def nothing_is_left(run):
    check(f"{run.biz}: what is left in S3", objects(), [])


def clear(*buckets):
    for bucket in buckets:
        for key in objects(bucket):
            Here.s3.delete_object(Bucket=bucket, Key=key)
