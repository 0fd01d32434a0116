"""CoWorks' own client: the operators of `coworks.biz`, as they are installed, run outside of Airflow.

Airflow itself is not installed. What the operators touch of it is made here: a base class that
keeps its XComs, and the hooks for HTTP and S3, which do the same as Airflow's with the same libraries.
All that is sent and all that is pushed is done by CoWorks' code.
"""
import functools
import logging
import re
import sys
import tempfile
import time
import types

import boto3
import requests


class Surroundings:
    """What a connection of Airflow, and the world, would say."""

    directory = None  # its address and its token
    gateway = None  # what stands in for AWS


class AirflowFailException(Exception):
    pass


class TaskGroup:
    """Puts its name before those of the tasks that are made in it."""

    prefix = ""

    def __init__(self, group_id):
        self.group_id = group_id

    def __enter__(self):
        TaskGroup.prefix = f"{self.group_id}."
        return self

    def __exit__(self, *_):
        TaskGroup.prefix = ""


class BaseOperator:
    def __init__(self, task_id=None, **_):
        self.task_id = TaskGroup.prefix + task_id
        self.log = logging.getLogger("original")

    def __rshift__(self, _):
        """The order is that of the group; it is executed in it."""

    def xcom_push(self, context, key, value):
        context["ti"].xcoms[self.task_id, key] = value


class BaseSensorOperator(BaseOperator):
    def execute(self, context):
        deadline = time.monotonic() + 60
        while not self.poke(context):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the original has no answer in {self.task_id}")
            time.sleep(0.02)


class Instance:
    """A task instance, with the XComs of all."""

    job_id = 7

    def __init__(self, task_id, xcoms):
        self.task_id, self.xcoms = task_id, xcoms

    def xcom_pull(self, task_ids, key):
        return self.xcoms[task_ids, key]


s3 = functools.cache(lambda: boto3.client("s3"))


class S3Hook:
    def __init__(self, aws_conn_id=None):
        self.client = s3()

    def check_for_key(self, key, bucket_name):
        try:
            self.client.head_object(Bucket=bucket_name, Key=key)
        except self.client.exceptions.ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return False
            raise
        return True

    def download_file(self, key, bucket_name):
        with tempfile.NamedTemporaryFile(delete=False) as file:
            self.client.download_fileobj(bucket_name, key, file)
        return file.name


class HttpHook:
    def __init__(self, method, http_conn_id=None):
        self.method = method

    def run(self, endpoint, data=None):
        host, token = Surroundings.directory
        headers = {"Authorization": token}
        answer = requests.request(self.method.upper(), f"{host}/{endpoint}", params=data, headers=headers)
        answer.raise_for_status()
        return answer


class TriggerRule:
    ALL_SUCCESS = "all_success"


def airflow():
    """The modules of Airflow that CoWorks imports, with what it takes from them."""
    nothing = type("Nothing", (), {})
    same = staticmethod(lambda it: it).__func__
    return {
        "airflow": {"DAG": nothing},
        "airflow.decorators": {"dag": same},
        "airflow.exceptions": {"AirflowFailException": AirflowFailException},
        "airflow.models": {"BaseOperator": BaseOperator, "Variable": nothing},
        "airflow.models.baseoperator": {"BaseOperator": BaseOperator},
        "airflow.operators": {},
        "airflow.operators.branch": {"BaseBranchOperator": BaseOperator},
        "airflow.operators.python": {"PythonOperator": BaseOperator},
        "airflow.providers": {},
        "airflow.providers.amazon": {},
        "airflow.providers.amazon.aws": {},
        "airflow.providers.amazon.aws.hooks": {},
        "airflow.providers.amazon.aws.hooks.s3": {"S3Hook": S3Hook},
        "airflow.providers.http": {},
        "airflow.providers.http.hooks": {},
        "airflow.providers.http.hooks.http": {"HttpHook": HttpHook},
        "airflow.sensors": {},
        "airflow.sensors.base": {"BaseSensorOperator": BaseSensorOperator, "poke_mode_only": same},
        "airflow.utils": {},
        "airflow.utils.decorators": {"apply_defaults": same},
        "airflow.utils.task_group": {"TaskGroup": TaskGroup},
        "airflow.utils.trigger_rule": {"TriggerRule": TriggerRule},
    }


for name, content in airflow().items():
    module = types.ModuleType(name)
    module.__dict__.update(content)
    sys.modules[name] = module

from coworks.biz import operators  # noqa: E402
from coworks.biz.group import TechMicroServiceAsyncGroup  # noqa: E402
from coworks.biz.operators import TechMicroServiceOperator  # noqa: E402


def request(method, url, **arguments):
    """`requests.request`, with the gateway on this machine in the place of AWS."""
    aws = re.compile(r"https://([^./]+)\.execute-api\.eu-west-1\.amazonaws\.com/")
    return requests.request(method, aws.sub(rf"{Surroundings.gateway}/\1/", url), **arguments)


operators.requests = types.SimpleNamespace(request=request)


class Original:
    """A run of a DAG of the original: its number, its start, its XComs."""

    def __init__(self, number, start_date):
        self.dag_run = types.SimpleNamespace(id=number, start_date=start_date, dag_id="original")
        self.xcoms = {}

    def xcom(self, task_id):
        return {key: value for (task, key), value in self.xcoms.items() if task == task_id}

    def execute(self, operator):
        context = {"dag_run": self.dag_run, "ti": Instance(operator.task_id, self.xcoms)}
        if hasattr(operator, "pre_execute"):
            operator.pre_execute(context)
        value = operator.execute(context)
        if value is not None:
            self.xcoms[operator.task_id, "return_value"] = value

    def call(self, task_id, **arguments):
        """A synchronous call, whatever it answers."""
        self.execute(TechMicroServiceOperator(task_id=task_id, raise_errors=False, **arguments))

    def group(self, group_id, **arguments):
        """An asynchronous call, whatever it answers. What it left in S3 is deleted, for who counts there."""
        group = TechMicroServiceAsyncGroup(group_id, raise_errors=False, **arguments)
        for task in (group.call_task, group.wait_task, group.read_task):
            self.execute(task)
        where = self.xcom(f"{group_id}.call")
        s3().delete_object(Bucket=where["bucket"], Key=where["key"])
