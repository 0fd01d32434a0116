"""Asks Airflow where the task instances of random DAGs stand, step by step.

Makes `airflow_states.txt`, which the tests of `run` replay. Airflow's own `DagRun.update_state`,
`clear_task_instances` and `set_task_instance_state` decide everything; this script draws the DAGs
and says how each try ends. There are no workers: a task instance that is queued is given its end.

    python -m venv /tmp/oracle
    /tmp/oracle/bin/pip install apache-airflow==3.3.2
    /tmp/oracle/bin/python tests/oracle/airflow_states.py > tests/oracle/airflow_states.txt

A line is a scenario: its tasks, then its steps, each part behind a space.

    w  s  t  b2  l      work, setup, teardown, branch with so many arms, list of a loop
    A .. M              its trigger rule (RULES), then its retries
    <0,2                its upstreams
    ?3.1                its gate: the branch and the arm, or the list

    .1=S  .4.0=F        the task (and its map index) ends in success (S), failed (F), skipped (K),
                        with arm 1 chosen (C1), or with 3 items (M3)
    !1,4.0              these are cleared
    +1  -1              it is marked success, failed
    :3F4qq5N            and then these tasks have these states: none (N), queued (q), success,
                        failed, skipped, upstream_failed (U); one letter for each mapped instance
    /s /f /r            and the run succeeds, fails, goes on

Its last part holds the try numbers, task by task.

Branches and lists are upstreams of all that they gate, for that is how Airflow knows them. What
Airflow decides of a loop or an arm before its list or branch has ended is another matter (ADR
0002), so that what stands there has no upstreams that could end before. Inside a loop, Airflow
also asks the rule of a task once for all instances before it has any: rules that differ by that
are left out there. So is what Airflow leaves to chance, see `is_chancy` and `is_odd`.
"""

import multiprocessing
import os
import random
import shutil
import sys
import tempfile

SCENARIOS = 2000
SEED = 20261123

RULES = [
    "all_success",
    "all_failed",
    "all_done",
    "all_done_min_one_success",
    "all_skipped",
    "one_success",
    "one_failed",
    "one_done",
    "none_failed",
    "none_failed_min_one_success",
    "none_skipped",
    "all_done_setup_success",
    "always",
]
# What waits for all of its upstreams before it lets a task run.
PATIENT = ["all_success", "all_done", "none_failed", "none_failed_min_one_success", "none_skipped"]
# What says the same of no upstreams as of some that have not ended.
INSIDE = ["all_success", "all_failed", "all_done", "all_skipped", "none_failed", "none_skipped"]
LETTERS = {
    None: "N",
    "queued": "q",
    "success": "S",
    "failed": "F",
    "skipped": "K",
    "upstream_failed": "U",
}


class Task:
    def __init__(self, kind, rule, retries, upstream, gate=None, arms=0):
        self.kind, self.rule, self.retries = kind, rule, retries
        self.upstream, self.gate, self.arms = sorted(set(upstream)), gate, arms
        # Whether it always succeeds, so that any rules may stand behind it.
        self.safe = False
        # How many items a list has.
        self.items = 0
        self.loop = None

    def written(self):
        letter = "ABCDEFGHIJKLM"[RULES.index(self.rule)]
        text = f"{self.kind}{self.arms or ''}{letter}{self.retries}"
        if self.upstream:
            text += "<" + ",".join(map(str, self.upstream))
        if self.gate:
            text += f"?{self.gate[0]}.{self.gate[1]}"
        return text


class Plan:
    """A random DAG: pieces one after another, with edges from anywhere above."""

    def __init__(self, rng):
        self.rng, self.tasks, self.top, self.setups = rng, [], [], []
        self.size = rng.randint(2, 14)
        while len(self.tasks) < self.size:
            kind = rng.choices(["w", "s", "t", "b", "l"], [8, 2, 2, 2, 2])[0]
            if kind == "b":
                self.branch()
            elif kind == "l":
                self.loop()
            elif kind == "t" and self.setups:
                self.teardown()
            elif kind == "s":
                self.setups.append(self.plain("s"))
            else:
                self.plain("w")

    def add(self, task):
        self.tasks.append(task)
        return len(self.tasks) - 1

    def rule(self, upstream, rules=RULES):
        if any(self.tasks[above].kind == "s" for above in upstream):
            return "all_success"
        return "all_success" if self.rng.random() < 0.4 else self.rng.choice(rules)

    def some(self, among, most=3):
        count = min(len(among), self.rng.choice([0, 1, 1, 2, 2, most]))
        return self.rng.sample(among, count)

    def retries(self):
        return self.rng.choice([0, 0, 0, 1, 2])

    def above(self):
        upstream = self.some(range(len(self.tasks)))
        if self.setups and self.rng.random() < 0.5:
            upstream.append(self.rng.choice(self.setups))
        return upstream

    def plain(self, kind):
        upstream = self.above()
        task = self.add(Task(kind, self.rule(upstream), self.retries(), upstream))
        if kind == "w":
            self.top.append(task)
        return task

    def teardown(self):
        rng = self.rng
        upstream = rng.sample(self.setups, min(len(self.setups), rng.choice([1, 1, 2])))
        upstream += self.some(range(len(self.tasks)))
        self.add(Task("t", "all_done_setup_success", self.retries(), upstream))

    def gate(self, kind, gate=None, arms=0):
        upstream = [gate[0]] if gate else self.above() if self.rng.random() < 0.6 else []
        rule = "all_success" if gate else self.rule(upstream)
        index = self.add(Task(kind, rule, self.retries(), upstream, gate, arms))
        self.tasks[index].safe = not upstream
        return index

    def branch(self, gate=None):
        rng = self.rng
        arms = rng.randint(1, 3)
        branch = self.gate("b", gate, arms)
        rules = [rule for rule in RULES if rule != "always"] if self.tasks[branch].safe else ["all_success"]
        for arm in range(arms):
            inside = []
            for _ in range(rng.randint(0, 3)):
                deeper = rng.random()
                if gate is None and deeper < 0.1:
                    self.branch((branch, arm))
                elif gate is None and deeper < 0.2:
                    self.loop((branch, arm))
                else:
                    upstream = [branch, *self.some(inside)]
                    rule = self.rule(upstream, rules) if len(rules) > 1 else "all_success"
                    inside.append(self.add(Task("w", rule, self.retries(), upstream, (branch, arm))))

    def loop(self, gate=None):
        rng = self.rng
        index = self.gate("l", gate)
        first = self.tasks[index]
        first.items = rng.choice([0, 1, 2, 2, 3])
        beside = []
        if gate is None and first.items > 0 and rng.random() < 0.3:
            rule = rng.choice(PATIENT) if first.safe else "all_success"
            beside = [self.add(Task("w", rule, self.retries(), [index]))]
        inside = []
        for _ in range(rng.randint(1, 3)):
            above = self.some(inside, 2)
            rules = ["all_success"]
            if first.safe:
                rules = INSIDE if above else PATIENT if beside else [r for r in RULES if r != "always"]
            upstream = above or [index, *beside]
            rule = self.rule(upstream, rules) if len(rules) > 1 else "all_success"
            task = Task("w", rule, self.retries(), upstream, (index, 0))
            task.loop = index
            inside.append(self.add(task))

    def is_chancy(self):
        """Whether a setup is above a branch or a list.

        Two of Airflow's checks may then write different ends of what is gated, in the order of a set."""
        below = [self.downstream([setup]) for setup in self.setups]
        return any(self.tasks[index].kind in "bl" for found in below for index in found)

    def downstream(self, tasks):
        found = set(tasks)
        for index, task in enumerate(self.tasks):
            if found & set(task.upstream):
                found.add(index)
        return found


def build(plan, name):
    """The DAG as its author would write it for Airflow."""
    from datetime import timedelta

    from airflow.providers.standard.operators.python import BranchPythonOperator, PythonOperator
    from airflow.sdk import DAG, task_group

    with DAG(name, schedule=None) as dag:
        made = {}

        def make(index):
            task = plan.tasks[index]
            operator = BranchPythonOperator if task.kind == "b" else PythonOperator
            made[index] = operator(
                task_id=f"t{index}",
                python_callable=list,
                trigger_rule="all_success" if task.kind == "t" else task.rule,
                retries=task.retries,
                retry_delay=timedelta(0),
            )
            if task.kind == "s":
                made[index].as_setup()

        loops = {}
        for index, task in enumerate(plan.tasks):
            if task.loop is None:
                make(index)
            else:
                loops.setdefault(task.loop, []).append(index)
        for first, members in loops.items():

            @task_group(group_id=f"g{first}", prefix_group_id=False)
            def group(item):
                for member in members:
                    make(member)
                for member in members:
                    for above in plan.tasks[member].upstream:
                        if above in members:
                            made[above] >> made[member]

            group.expand(item=made[first].output)
        for index, task in enumerate(plan.tasks):
            for above in task.upstream:
                if made[above].task_id not in made[index].upstream_task_ids:
                    made[above] >> made[index]
            if task.kind == "t":
                made[index].as_teardown(setups=[made[u] for u in task.upstream if plan.tasks[u].kind == "s"])
    for index, task in enumerate(plan.tasks):
        assert made[index].upstream_task_ids == {f"t{above}" for above in task.upstream}, task.written()
    dag.validate_setup_teardown()
    return dag


class Scenario:
    def __init__(self, number):
        self.rng = random.Random(SEED * 100_000 + number)
        self.plan = Plan(self.rng)
        while self.plan.is_chancy():
            self.plan = Plan(self.rng)
        self.name = f"scenario_{number}"
        self.told, self.ended, self.is_odd = {}, "r", False

    def play(self, session):
        from airflow.models.dag_version import DagVersion
        from airflow.models.serialized_dag import SerializedDagModel
        from airflow.sdk import timezone
        from airflow.serialization.definitions.dag import SerializedDAG
        from airflow.serialization.serialized_objects import DagSerialization, LazyDeserializedDAG
        from airflow.utils.state import DagRunState
        from airflow.utils.types import DagRunTriggeredByType, DagRunType

        dag = build(self.plan, self.name)
        SerializedDAG.bulk_write_to_db("oracle", None, [dag], session=session)
        SerializedDagModel.write_dag(LazyDeserializedDAG.from_dag(dag), bundle_name="oracle", session=session)
        session.commit()
        self.dag = DagSerialization.from_dict(DagSerialization.to_dict(dag))
        self.session = session
        self.run = self.dag.create_dagrun(
            run_id="run",
            logical_date=None,
            run_after=timezone.utcnow(),
            run_type=DagRunType.MANUAL,
            triggered_by=DagRunTriggeredByType.TEST,
            state=DagRunState.RUNNING,
            session=session,
        )
        self.run.dag = self.dag
        session.commit()
        parts = [task.written() for task in self.plan.tasks] + [self.settle()]
        # How often an operator interferes, while it runs or after it has ended.
        interferes = self.rng.choice([0, 1, 1, 2])
        for _ in range(500):
            ready = [ti for ti in self.instances() if ti.state == "queued"]
            ready.sort(key=lambda ti: (int(ti.task_id[1:]), ti.map_index))
            if interferes and (not ready or self.rng.random() < 0.08):
                interferes -= 1
                parts.append(self.interfere())
            elif ready:
                parts.append(self.end(self.rng.choice(ready)))
            else:
                break
        else:
            raise AssertionError("does not end")
        if self.is_odd:
            return None
        tries = [",".join(str(ti.try_number) for ti in of) for of in self.by_task()]
        return " ".join(parts + ["#" + ";".join(tries)])

    def instances(self):
        from airflow.models.taskinstance import TaskInstance
        from sqlalchemy import select

        self.session.expire_all()
        query = select(TaskInstance).where(TaskInstance.dag_id == self.name)
        return list(self.session.scalars(query))

    def by_task(self):
        tasks = [[] for _ in self.plan.tasks]
        for ti in sorted(self.instances(), key=lambda ti: ti.map_index):
            tasks[int(ti.task_id[1:])].append(ti)
        return tasks

    def settle(self, skipped=None):
        """Lets Airflow decide until nothing changes, and tells what has."""
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.state import DagRunState
        from sqlalchemy import update

        before = None
        while self.run.state == DagRunState.RUNNING:
            self.run.dag = self.dag
            ready, _ = self.run.update_state(session=self.session, execute_callbacks=False)
            self.run.schedule_tis(ready, session=self.session)
            # There are slots for all. From then on, as in the scheduler, nobody asks again.
            self.session.execute(
                update(TaskInstance).where(TaskInstance.state == "scheduled").values(state="queued")
            )
            self.session.commit()
            now = [(ti.task_id, ti.map_index, ti.state) for ti in self.instances()]
            if now == before:
                break
            before = now
        text = ":"
        for index, of in enumerate(self.by_task()):
            states = "".join(LETTERS.get(ti.state, "?") for ti in of)
            for ti, (before, now) in zip(of, zip(self.told.get(index, ""), states)):
                self.is_odd |= before == "q" and now in "KU" and self.key(ti) != skipped
            # For a retry, and where nothing else can be scheduled, Airflow asks the rules of what has
            # begun once more, and finds what was cleared or marked above it since.
            self.is_odd |= "?" in states
            if states != self.told.get(index, "N"):
                text += f"{index}{states}"
            self.told[index] = states
        now = {"success": "s", "failed": "f"}.get(self.run.state, "r")
        if now != self.ended:
            text += "/" + now
            self.ended = now
        return text if text != ":" else ""

    def end(self, ti):
        """Ends the try of a task instance, as a worker would."""
        from datetime import timedelta

        from airflow.models.taskmap import TaskMap
        from airflow.models.xcom import XComModel
        from airflow.sdk import timezone
        from airflow.ti_deps.deps.not_previously_skipped_dep import XCOM_SKIPMIXIN_KEY

        rng, index = self.rng, int(ti.task_id[1:])
        task, ti.task = self.plan.tasks[index], self.dag.get_task(ti.task_id)
        # Long enough ago for a retry, whose delay is none.
        ti.start_date = ti.end_date = timezone.utcnow() - timedelta(minutes=1)
        how = "S" if task.safe else rng.choices("SFK", [6, 3, 1])[0]
        push = dict(dag_id=self.name, task_id=ti.task_id, run_id="run", map_index=ti.map_index, session=self.session)
        if how == "F":
            ti.state = "up_for_retry" if ti.is_eligible_to_retry() else "failed"
        elif how == "K":
            ti.state = "skipped"
        else:
            ti.state = "success"
            if task.kind == "b":
                arm = rng.randrange(task.arms)
                how = f"C{arm}"
                # What only comes behind the branch is in no arm, and follows as well.
                behind = [(n, other) for n, other in enumerate(self.plan.tasks) if index in other.upstream]
                apart = [(index, other) for other in range(task.arms) if other != arm]
                followed = [f"t{n}" for n, other in behind if other.gate not in apart]
                XComModel.set(key=XCOM_SKIPMIXIN_KEY, value={"followed": followed}, **push)
            elif task.kind == "l":
                how = f"M{task.items}"
                XComModel.set(key="return_value", value=list(range(task.items)), **push)
                self.session.merge(TaskMap.from_task_instance_xcom(ti, list(range(task.items))))
        self.session.commit()
        return f".{self.key(ti)}={how}" + self.settle(self.key(ti) if how == "K" else None)

    def key(self, ti):
        return ti.task_id[1:] + (f".{ti.map_index}" if ti.map_index >= 0 else "")

    def interfere(self):
        from airflow.models.taskinstance import clear_task_instances
        from airflow.models.xcom import XComModel
        from airflow.utils.state import DagRunState, TaskInstanceState
        from sqlalchemy import delete

        rng, tasks, instances = self.rng, self.plan.tasks, self.instances()
        if self.plan.top and rng.random() < 0.3:
            index = rng.choice(self.plan.top)
            ti = next(ti for ti in instances if ti.task_id == f"t{index}")
            state = rng.choice([TaskInstanceState.SUCCESS, TaskInstanceState.FAILED])
            if ti.state != state:
                self.dag.set_task_instance_state(task_id=ti.task_id, run_id="run", state=state, session=self.session)
                self.session.commit()
                self.go_on()
                return ("+" if state == "success" else "-") + str(index) + self.settle()
        begun = [ti for ti in instances if ti.state is not None] or instances
        chosen = rng.sample(begun, min(len(begun), rng.choice([1, 1, 2])))
        indexes = {int(ti.task_id[1:]) for ti in chosen}
        if rng.random() < 0.5 or any(tasks[index].kind in "bl" for index in indexes):
            # Whatever is gated is decided anew with its gate.
            indexes = self.plan.downstream(indexes)
            chosen = [ti for ti in instances if int(ti.task_id[1:]) in indexes]
        chosen.sort(key=lambda ti: (int(ti.task_id[1:]), ti.map_index))
        # Airflow keeps what a cleared branch had chosen until it runs again, and skips by it also where
        # it does not run: there is no such choice in `run`.
        branches = [ti.task_id for ti in chosen if tasks[int(ti.task_id[1:])].kind == "b"]
        where = (XComModel.dag_id == self.name, XComModel.task_id.in_(branches))
        self.session.execute(delete(XComModel).where(*where))
        keys = ",".join(self.key(ti) for ti in chosen)
        clear_task_instances(chosen, self.session, DagRunState.QUEUED)
        self.session.commit()
        self.go_on()
        return f"!{keys}" + self.settle()

    def go_on(self):
        """Sets the run running that clearing has queued, as the scheduler would."""
        self.session.expire_all()
        if self.run.state == "queued":
            self.run.state = "running"
            self.session.commit()


def play(numbers):
    home = tempfile.mkdtemp(prefix="oracle-", dir="/dev/shm")
    os.environ.update(
        AIRFLOW_HOME=home,
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__CORE__DAGS_FOLDER=home,
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{home}/airflow.db",
        AIRFLOW__LOGGING__LOGGING_LEVEL="FATAL",
    )
    try:
        import logging

        from airflow.utils.db import initdb
        from airflow.utils.session import create_session

        initdb()
        logging.disable(logging.CRITICAL)
        from airflow.models.dagbundle import DagBundleModel

        with create_session() as session:
            session.add(DagBundleModel(name="oracle"))
        lines = []
        for number in numbers:
            with create_session() as session:
                lines.append(Scenario(number).play(session))
        return lines
    finally:
        shutil.rmtree(home, ignore_errors=True)


def main():
    # Each portion in a process of its own, for Airflow is bound to its database once it is imported.
    portions = (range(n, n + 50) for n in range(0, SCENARIOS + 200, 50))
    context = multiprocessing.get_context("spawn")
    with context.Pool(maxtasksperchild=1) as pool:
        lines = (line for lines in pool.imap(play, portions) for line in lines if line)
        for _, line in zip(range(SCENARIOS), lines):
            print(line, flush=True)


if __name__ == "__main__":
    main()
