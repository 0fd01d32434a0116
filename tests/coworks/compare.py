"""Runs the bizs of `program.rs` against CoWorks itself, and tells where they differ from what CoWorks is.

What is expected comes from what the entries in `services.py` return, from what Flask says of
errors, and from CoWorks' own client, which is asked the same (`original.py`); never from our output.
`tests/coworks/run` prepares all that this needs.
"""
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.parse
from base64 import b64encode

import boto3
from werkzeug.exceptions import BadRequest, Forbidden, InternalServerError, MethodNotAllowed, NotFound
from werkzeug.exceptions import UnprocessableEntity

import services
from original import Surroundings
from runs import BUCKET, Here, Run, check, clear, command, headers_are_right, nothing_is_left, objects, until_there_is
from services import BINARY, CSV, DICT, DIRECTORY_TOKEN, DISGUISED, LARGE_JSON, LARGE_TEXT, LIST, TEXT, TOKEN
from services import UNICODE, UNICODE_TEXT

ELSEWHERE = "suite-elsewhere"
ORDER = {"page": 2, "tags": ["a b", "é/&="], "note": None, "text": "Zoë 東京 50%?+&"}


def marked(content):
    """Bytes as they are pushed."""
    return {"__bytes__": b64encode(content).decode()}


def page(error):
    """The page that Flask makes of an error."""
    return error.get_body()


# Each entry: its path, what it returns, its status.
ENTRIES = {
    "text": ("/text", TEXT, 200),
    "unicode": ("/unicode", UNICODE, 200),
    "unicode_text": ("/unicode/text", UNICODE_TEXT, 200),
    "dict": ("/dict", DICT, 200),
    "list": ("/list", LIST, 200),
    "number": ("/number", 12.5, 200),
    # A text that is JSON is taken for JSON on its way, by CoWorks as well as by its client.
    "numeral": ("/numeral", 42, 200),
    "zeros": ("/zeros", "0042", 200),
    "null": ("/null", None, 200),
    "created": ("/created", {"created": True}, 201),
    "open": ("/open", {"open": True}, 200),
    "bad": ("/bad", page(BadRequest("not like that")), 400),
    "missing": ("/missing", "no such customer", 404),
    "teapot": ("/refuse/418", {"refused": 418}, 418),
    "broken": ("/refuse/500", {"refused": 500}, 500),
    "raised": ("/raise", page(InternalServerError()), 500),
}


def answers(biz, cws_name, empty, nothing):
    run = Run(biz)
    for task, (_, value, status) in ENTRIES.items():
        run.answer(task, value, status, cws_name)
    run.answer("typed", DICT, 200, cws_name)
    run.answer("numeral_text", "42", 200, cws_name)
    run.answer("absent", None, 200, cws_name)
    run.answer("empty", empty, 200, cws_name)
    run.answer("empty_text", "", 200, cws_name)
    run.answer("nothing", nothing, 204, cws_name)
    run.answer("no_content", nothing, 204, cws_name)
    run.answer("binary", marked(BINARY), 200, cws_name)
    run.answer("disguised", marked(DISGUISED), 200, cws_name)
    surplus = page(UnprocessableEntity("TypeError: got an unexpected keyword argument 'unknown'"))
    run.answer("surplus", surplus, 422, cws_name)
    dropped = "dropped" if "dropped" in run.tasks else "dropped.read"
    check(f"{run.name(dropped)}: XComs", run.xcom(dropped).get("return_value", "none"), "none")
    run.pushed("bytes", {"return_value": [len(BINARY), sum(BINARY), DISGUISED.decode()]})
    kinds = ['success {"created":true}', "no content", 'failure 404 "no such customer"', 'failure 418 {"refused":418}']
    run.pushed("kinds", {"return_value": kinds})
    headers_are_right(run)
    nothing_is_left(run)
    return run


def beside_the_original(run, **service):
    for task, (path, *_) in ENTRIES.items():
        run.as_the_original(task, entry=path, **service)
    for task in ("empty", "nothing"):
        run.as_the_original(task, entry=f"/{task}", **service)


def compare_answers_of_flask():
    """what entries return, served by Flask; and the original's word on it"""
    # Nothing is there to be parsed: the original makes `{}` of it.
    run = answers("by_flask", "suite-flask", empty={}, nothing={})
    beside_the_original(run, cws_name="suite-flask")


def compare_answers_of_lambda():
    """what entries return, as Lambdas behind the gateway; and the original's word on it"""
    # A gateway writes an empty text as JSON, and nothing for 204.
    run = answers("by_lambda", "suite", empty="", nothing={})
    beside_the_original(run, api_id="suite", stage="prod")


def compare_answers_in_s3():
    """what entries return, left in S3 by CoWorks; and the original's word on it"""
    run = answers("by_s3", "suite", empty="", nothing="")
    beside_the_original(run, api_id="suite", stage="prod")


def questions(biz, **arguments):
    """What the entries say of what they took, and what the original sends for the same."""
    run = Run(biz, ORDER)
    cws_name = arguments["cws_name"]
    page, tags, note, text = (ORDER[name] for name in ("page", "tags", "note", "text"))
    query = {"page": page, "tag": tags, "note": note, "text": text}
    lines = [page, {"tags": tags}]
    segment = urllib.parse.quote(text, safe="")
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    special = {"X-Page": "2", "Accept": "application/vnd.api+json", "Authorization": "not this one"}
    asked = {
        "pairs": (query, {"entry": "/query", "query_params": query}),
        "object": (query, {"entry": "/query", "query_params": query}),
        "path": ({"number": text, "line": str(page)}, {"entry": f"/orders/{segment}/{page}"}),
        "json": (
            {"name": text, "lines": lines, "none": None},
            {"entry": "/json", "method": "post", "json": {"name": text, "lines": lines, "none": None}},
        ),
        "put": ({"put": page}, {"entry": "/json", "method": "put", "json": {"name": page}}),
        "patch": ({"patched": tags}, {"entry": "/json", "method": "patch", "json": {"name": tags}}),
        "delete": ({"deleted": text}, {"entry": "/json", "method": "delete", "json": {"name": text}}),
        "delete_nothing": ({"deleted": None}, {"entry": "/json", "method": "delete"}),
        "post_nothing": ({"name": None, "lines": None, "none": "not sent"}, {"entry": "/json", "method": "post"}),
        "form": (
            {"name": text, "tag": tags},
            {"entry": "/form", "method": "post", "data": {"name": text, "tag": tags}, "headers": form},
        ),
        "headers": ({"open": True}, {"entry": "/open", "headers": special}),
    }
    for task, (told, original) in asked.items():
        run.answer(task, told, 200, cws_name)
        run.as_the_original(task, **original, **arguments)
    check(f"{biz}: one look into the directory", len(run.looked_up), 1)
    headers_are_right(run, {task: ["x-page"] for task in ("headers", "headers.call")})
    nothing_is_left(run)


def compare_questions_to_flask():
    """what is sent to Flask, and what the original sends"""
    questions("asks_flask", cws_name="suite-flask")


def compare_questions_to_lambda():
    """what is sent through the gateway, and what the original sends"""
    questions("asks_lambda", cws_name="suite-lambda", stage="prod")


def compare_questions_left_in_s3():
    """what is sent for an answer in S3, and what the original sends"""
    questions("asks_s3", cws_name="suite-lambda")


def compare_other_bodies():
    """bodies that are no objects"""
    run = Run("any_body")
    for task, value in {"list": [1, "é"], "text": "text", "number": 7}.items():
        run.answer(task, {"value": value}, 200, "suite-flask")


def compare_transformers():
    """what a task makes is the query or the body"""
    run = Run("transformed", ORDER)
    query = {"page": ORDER["page"], "tag": ORDER["tags"], "note": None, "text": ORDER["text"]}
    body = {"name": ORDER["text"], "lines": ORDER["tags"], "none": None}
    run.pushed("got.transformer", {"return_value": query})
    run.pushed("made.transformer", {"return_value": body})
    run.answer("got", query, 200, "suite-lambda")
    run.answer("made", body, 200, "suite-lambda")
    run.as_the_original("got", entry="/query", cws_name="suite-lambda", query_params=query)
    run.as_the_original("made", entry="/json", method="post", cws_name="suite-lambda", json=body)
    nothing_is_left(run)


def compare_loops():
    """a call for each item"""
    run = Run("mapped", [3, 1, 2])
    for index, n in enumerate([3, 1, 2]):
        xcom = {"cws_name": "suite-flask", "status_code": 200, "return_value": {"item": n}}
        run.pushed(f"now[{index}]", xcom)
        (seen,) = [s for s in run.seen if s.headers["idempotency-key"].endswith(f"later.call.{index}.0")]
        key = seen.headers["x-cws-s3key"]
        check("mapped: the path of an item", seen.path, f"/suite/prod/item/{n}")
        run.pushed(f"later.call[{index}]", {"cws_name": "suite-lambda", "bucket": BUCKET, "key": key})
        run.pushed(f"later.read[{index}]", {"status_code": 200, "return_value": {"item": n}})
    items = [{"item": n} for n in (3, 1, 2)]
    run.pushed("together", {"return_value": [items, items]})
    check("mapped: requests", len(run.seen), 6)
    nothing_is_left(run)


def compare_addresses():
    """services at an address, and by a type of the program's own"""
    run = Run("addressed")
    run.answer("fixed", DICT, 200, "http://services.invalid")
    run.answer("open", {"open": True}, 200, "http://services.invalid/")
    run.answer("own", DICT, 200, "suite-lambda")
    run.answer("own_later", DICT, 200, "suite-lambda")
    for task, token, company in (
        ("fixed", TOKEN, None), ("open", None, None), ("own", TOKEN, "neorezo"), ("own_later.call", TOKEN, "neorezo"),
    ):
        (seen,) = run.asked(task)
        found = seen.headers.get("authorization"), seen.headers.get("x-company")
        check(f"{run.name(task)}: token and own header", found, (token, company))
    targets = [run.asked(task)[0].target for task in ("fixed", "open", "own")]
    check("addressed: targets", targets, ["http://services.invalid/dict", "http://services.invalid/open", "/suite/prod/dict"])
    lookups = [(seen.method, seen.target, seen.headers.get("authorization"), seen.headers.get("content-type"),
                seen.headers.get("x-amzn-trace-id")) for seen in run.looked_up]
    check("addressed: the directory was asked", lookups, [("GET", "/suite-lambda?stage=prod", DIRECTORY_TOKEN, None, None)])


def compare_who_is_turned_away():
    """what a gateway and Flask say to who is not let in"""
    run = Run("turned_away")
    for task, status, text in (
        ("no_token", 401, "Unauthorized"),
        ("wrong_token", 403, "User is not authorized to access this resource"),
        ("unknown_path", 403, "Missing Authentication Token"),
        ("unknown_method", 403, "Missing Authentication Token"),
        ("unknown_stage", 403, "Missing Authentication Token"),
        ("another_type", 415, "Unsupported Media Type"),
        ("too_slow", 504, "Endpoint request timed out"),
    ):
        run.answer(task, {"message": text}, status, "suite")
    # CoWorks under Flask has one word for both.
    run.answer("flask_no_token", page(Forbidden()), 403, "suite-without-token")
    run.answer("flask_wrong_token", page(Forbidden()), 403, "suite-flask")
    run.answer("flask_unknown_path", page(NotFound()), 404, "suite-flask")
    run.answer("flask_unknown_method", page(MethodNotAllowed()), 405, "suite-flask")
    run.answer("flask_without_token", page(Forbidden()), 403, "suite-without-token")
    for task in ("no_token", "flask_no_token", "flask_without_token"):
        check(f"{run.name(task)}: token", run.asked(task)[0].headers.get("authorization"), None)


def compare_unknown_names():
    """names that the directory does not know"""
    run = Run("unknown_names", exit_code=1)
    run.fails("nobody", "`suite-nobody`", "404")
    run.fails("no_stage", "`suite-lambda` in the stage `v9`", "404")
    run.fails("broken.call", "`suite-broken`", "500")
    run.never("broken.wait", "broken.read")
    check("unknown_names: no request of a service", run.seen, [])


def compare_a_token_that_is_renewed():
    """the directory is asked again where its token is refused"""
    run = Run("renewed")
    run.answer("now", DICT, 200, "suite-renewed")
    run.answer("later", DICT, 200, "suite-renewed")
    for task, stage in (("now", "flask"), ("later.call", "lambda")):
        tokens = [seen.headers["authorization"] for seen in run.asked(task)]
        check(f"{run.name(task)}: tokens", tokens, ["an-old-token", TOKEN])
        lookups = [seen for seen in run.looked_up if seen.target == f"/suite-renewed?stage={stage}"]
        check(f"{run.name(task)}: lookups", len(lookups), 2)
    nothing_is_left(run)


def compare_calls_that_are_not_taken():
    """asynchronous calls that the gateway refuses"""
    events = len(Here.world.lambdas.events)
    run = Run("not_taken", exit_code=1)
    for task, status in (("no_token", 401), ("wrong_token", 403), ("unknown_path", 403), ("another_type", 415)):
        run.fails(f"{task}.call", f"answered {status}")
        run.never(f"{task}.wait", f"{task}.read")
    check("not_taken: no event", len(Here.world.lambdas.events), events)
    nothing_is_left(run)


def compare_refusals():
    """refusals of services fail the task, after a retry where one may help"""
    run = Run("refused", exit_code=1)
    for task, tries, status, text in (
        ("missing", 1, 404, "no such customer"),
        ("bad", 1, 400, "<!doctype html>"),
        ("broken", 2, 500, '{"refused": 500}'),
    ):
        run.fails(task, f"answered {status}: {text}", tries=tries)
        run.state(f"{task}_later.call", "success", 1)
        run.fails(f"{task}_later.read", f"answered {status}, left at s3://", f": {text}", tries=tries)
        check(f"{run.name(task)}: requests", [len(run.asked(task)), len(run.asked(f"{task}_later.call"))], [tries, tries])
    run.fails("raised_later.read", "answered 500, left at s3://", ": <!doctype html>", "Internal Server Error", tries=2)
    nothing_is_left(run)


def compare_what_passes_by_itself():
    """503 and then 200, under one Idempotency-Key, not before Retry-After"""
    run = Run("transient")
    run.answer("flask", {"nth": 2}, 200, "suite-flask", tries=2)
    run.answer("lambda", {"nth": 2}, 200, "suite-lambda", tries=2)
    run.answer("later", {"nth": 2}, 200, "suite-lambda", tries=2)
    for task in ("flask", "lambda", "later"):
        run.answer(f"busy_{task}", {"nth": 2}, 200, "suite-flask" if task == "flask" else "suite-lambda", tries=2)
    for task in ("flask", "lambda", "later.call", "busy_flask", "busy_lambda", "busy_later.call"):
        names = [seen.headers["idempotency-key"] for seen in run.asked(task)]
        check(f"{run.name(task)}: requests, and their names", (len(names), len(set(names))), (2, 1))
        first, second = (seen.at for seen in run.asked(task))
        if "busy" in task:
            check(f"{run.name(task)}: waited {second - first:.2f} s, its Retry-After", second - first >= 1, True)
    keys = [seen.headers["x-cws-s3key"] for seen in run.asked("later.call")]
    check("transient: the second answer goes elsewhere", len(set(keys)), 2)
    nothing_is_left(run)


def compare_what_takes_its_time():
    """a gateway does not wait for an event"""
    run = Run("slow")
    run.answer("flask", {"slept": 3.0}, 200, "suite-flask")
    run.answer("later", {"slept": 3.0}, 200, "suite-lambda")
    check("slow: requests", len(run.seen), 2)
    nothing_is_left(run)


def compare_what_comes_late():
    """an answer that comes when it was asked for again"""
    run = Run("late")
    run.state("answer.wait", "success", 2)
    run.pushed("answer.read", {"status_code": 200, "return_value": {"slept": 3.0}})
    first, second = run.asked("answer.call")
    for header in ("idempotency-key", "x-cws-s3key"):
        check(f"late: {header}", second.headers[header], first.headers[header])
    # The second event writes its answer too, when nobody waits for it any more.
    until_there_is(first.headers["x-cws-s3key"])
    clear(BUCKET)


def compare_what_never_comes():
    """a service that dies, and one that raises in debug mode"""
    run = Run("vanished", exit_code=1)
    for task in ("dead", "debugged"):
        run.state(f"{task}.call", "success", 1)
        key = run.xcom(f"{task}.call")["key"]
        run.fails(f"{task}.wait", f"no answer at s3://{BUCKET}/{key} within its timeout of 3s")
        run.never(f"{task}.read")
    check(f"vanished: lasted {run.lasted:.1f} s, its timeout", 3 <= run.lasted < 15, True)
    nothing_is_left(run)


def compare_a_wrong_key_of_s3():
    """an answer that S3 does not let us see"""
    run = Run("vanished", exit_code=1, variables={"AWS_SECRET_ACCESS_KEY": "another-secret-key"})
    for task in ("dead", "debugged"):
        run.fails(f"{task}.wait", "within its timeout of 3s", "S3 answers 403")


def compare_a_run_that_dies():
    """CoWorks stores its answer while nobody waits, and the run goes on with it"""
    Here.world.take()
    database = "killed.db"
    process = subprocess.Popen(
        command("interrupted", database), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env=Here.environment, cwd=Here.home,
    )
    run_id = None
    for line in process.stderr:
        run_id = run_id or (re.search(r"run (\S+) begins", line) or [None, None])[1]
        if "up_for_reschedule" in line:
            break
    process.kill()
    process.communicate()
    (seen,) = Here.world.take()
    until_there_is(seen.headers["x-cws-s3key"])
    run = Run("interrupted", database=database, more=["--resume", run_id])
    check("interrupted: nothing is asked again", run.seen, [])
    call = {"cws_name": "suite-lambda", "bucket": BUCKET, "key": seen.headers["x-cws-s3key"]}
    run.pushed("answer.call", call)
    run.pushed("answer.read", {"status_code": 200, "return_value": {"slept": 1.0}})
    nothing_is_left(run)


def compare_20_mb():
    """20 MB of text, now and later, and of JSON"""
    run = Run("large")
    run.answer("text", LARGE_TEXT, 200, "suite-flask")
    run.answer("text_later", LARGE_TEXT, 200, "suite-lambda")
    run.answer("json_later", LARGE_JSON, 200, "suite-lambda")
    run.pushed("sizes", {"return_value": [len(LARGE_TEXT), True, len(LARGE_JSON), LARGE_JSON[-1]]})
    nothing_is_left(run)


def compare_what_is_kept():
    """answers that stay, and runs that never take another's"""
    found = []
    # Twice in one database, and once in one of its own that begins with the same number.
    for nth, database in ((1, "biz.db"), (2, "biz.db"), (3, "other.db")):
        run = Run("kept", "kept", database)
        run.answer("answer", {"nth": nth}, 200, "suite-lambda")
        run.answer("refused", "no such customer", 404, "suite-lambda")
        run.answer("elsewhere", DICT, 200, "suite-lambda")
        found.append({task: run.xcom(f"{task}.call") for task in ("answer", "refused", "elsewhere")})
    keys = sorted(xcoms[task]["key"] for xcoms in found for task in ("answer", "refused"))
    check("kept: objects", objects(), keys)
    check("kept: another for each", len(set(keys)), 6)
    check("kept: objects elsewhere", objects(ELSEWHERE), sorted(xcoms["elsewhere"]["key"] for xcoms in found))
    for nth, xcoms in enumerate(found, 1):
        stored = json.loads(Here.s3.get_object(Bucket=BUCKET, Key=xcoms["answer"]["key"])["Body"].read())
        del stored["headers"]
        check("kept: what CoWorks stored", stored, {"statusCode": 200, "body": {"nth": nth}, "isBase64Encoded": False})
    clear(BUCKET, ELSEWHERE)


def compare_what_is_binary():
    """binary answers: of no type that was told, that are texts, that are none; a bucket that is not there"""
    run = Run("mistyped", exit_code=1)
    run.fails("binary.read", f"{len(BINARY)} bytes that are no text", "`Bytes`", "The object is kept")
    # A gateway hands the base64 on that Lambda gave it, to who accepts no binary type.
    run.answer("base64", b64encode(BINARY).decode(), 200, "suite-lambda")
    (key,) = objects()
    check("mistyped: CoWorks stored the bytes", Here.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == BINARY, True)
    clear(BUCKET)
    run = Run("plain_bytes")
    run.answer("csv", marked(CSV), 200, "suite-lambda")
    run.answer("nothing", marked(b""), 200, "suite-lambda")
    run.answer("missing", page(NotFound("no such document")), 404, "suite-lambda")
    nothing_is_left(run)
    run = Run("nowhere", exit_code=1)
    run.fails("answer.call", "there is no bucket `suite-nowhere`")
    check("nowhere: no request", run.seen, [])


def compare_sensors():
    """a service that is asked until it says yes"""
    run = Run("sensing")
    run.answer("flask", {"state": "done"}, 200, "suite-flask")
    run.answer("lambda", {"nth": 2}, 200, "suite-lambda")
    for task, count in (("flask", 3), ("lambda", 2)):
        names = [seen.headers["idempotency-key"] for seen in run.asked(task)]
        check(f"{run.name(task)}: questions, each of its own", (len(names), len(set(names))), (count, count))


def main():
    # The token that CoWorks' own authorizer looks for.
    os.environ["TOKEN"] = TOKEN
    # CoWorks logs and prints much; what counts of it is in what it answers.
    logging.disable(logging.CRITICAL)
    out, sys.stdout = sys.stdout, open(os.devnull, "w")
    Here.program, Here.s3 = sys.argv[1], boto3.client("s3")
    for bucket in (BUCKET, ELSEWHERE):
        create(bucket)
    Here.world = services.World()
    Surroundings.directory = (Here.world.directory.url, DIRECTORY_TOKEN)
    Surroundings.gateway = Here.world.gateway.url
    with tempfile.TemporaryDirectory() as Here.home:
        Here.environment = {
            "PATH": os.environ["PATH"],
            "COWORKS_GATEWAY_URL": Here.world.gateway.url + "/{api_id}",
            "COWORKS_DIRECTORY_URL": Here.world.directory.url,
            "COWORKS_DIRECTORY_TOKEN": DIRECTORY_TOKEN,
            "COWORKS_SECRET_SUITE_TOKEN": TOKEN,
            # What is at a fixed address is found through the environment's proxy.
            "http_proxy": Here.world.flask.url,
            "no_proxy": "127.0.0.1",
            **{name: value for name, value in os.environ.items() if name.startswith("AWS_")},
        }
        for name, compare in list(globals().items()):
            if not name.startswith("compare_") or not any(part in name for part in sys.argv[2:] or [""]):
                continue
            began, before = time.monotonic(), len(Here.differences)
            try:
                compare()
            except Exception:
                # Nothing can be compared with what is not there.
                Here.differences.append(f"{name}: {traceback.format_exc()}")
            sign = "✓" if len(Here.differences) == before else "✗"
            print(f"{sign} {compare.__doc__} ({time.monotonic() - began:.1f} s)", file=out, flush=True)
    for difference in Here.differences:
        print(f"DIFFERS {difference}", file=sys.stderr)
    if Here.differences:
        sys.exit(f"{len(Here.differences)} of {Here.compared} comparisons with CoWorks differ")
    if not Here.compared:
        sys.exit(f"there is nothing of the name {' or '.join(sys.argv[2:])}")
    print(f"all {Here.compared} comparisons with CoWorks hold", file=out)


def create(bucket):
    """Makes a bucket, as soon as S3 is there."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return Here.s3.create_bucket(Bucket=bucket)
        except Exception as error:
            if time.monotonic() > deadline:
                sys.exit(f"S3 does not answer: {error}")
            time.sleep(0.1)


main()
