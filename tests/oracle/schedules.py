"""Asks Airflow for its ticks, and writes what it says to `schedules.txt`.

    python3 -m venv venv
    venv/bin/pip install apache-airflow-core==3.3.2
    venv/bin/python tests/oracle/schedules.py

The fixture is read by the tests of `schedule` in coworks-biz-runtime. Its lines:

    zone NAME
    cron EXPRESSION                          as Airflow reads it; what follows is of this zone and this expression
    chain AFTER STEP..                       from AFTER, each next tick is so many seconds after the one before;
                                             `3600x5` is five of them; `<` in front: Airflow's own way back from
                                             this tick is not the tick before it
    ask MOMENT PREVIOUS NEXT                 the last tick before, and the first after a moment, in seconds from it
    info NOW CATCHUP START END LAST TICK     what `next_dagrun_info` says; `-` where there is none

Moments are in seconds since the epoch. Zones and years are those in which databases of time zones agree.
"""

import random
from datetime import datetime, timedelta, timezone
from pathlib import Path
from unittest import mock
from zoneinfo import ZoneInfo

import pendulum
from airflow.timetables.base import DataInterval, TimeRestriction
from airflow.timetables.trigger import CronTriggerTimetable

# Each zone, and the span its moments are chosen from.
ZONES = {
    "UTC": ("2023-01-10", "2025-01-10"),
    "Europe/Paris": ("2023-01-10", "2025-01-10"),
    "America/New_York": ("2023-01-10", "2024-12-10"),
    "America/Sao_Paulo": ("2017-01-10", "2018-12-10"),
    "Australia/Lord_Howe": ("2023-01-10", "2024-12-10"),
    "Asia/Kathmandu": ("1985-02-10", "1986-12-10"),
    "Africa/Casablanca": ("2023-01-10", "2024-06-10"),
    "Pacific/Apia": ("2011-01-10", "2012-12-10"),
    "America/Havana": ("2023-01-10", "2024-12-10"),
    "Asia/Beirut": ("2021-01-10", "2022-12-10"),
}

CRONS = [
    "* * * * *", "*/5 * * * *", "*/7 * * * *", "*/15 * * * *", "*/40 * * * *", "0 * * * *", "30 * * * *",
    "5,35 * * * *", "10-20/5 * * * *", "50-10 * * * *", "59/15 * * * *", "10/20 * * * *", "0 0-23 * * *",
    "15 */1 * * *", "0 */2 * * *", "0 1/2 * * *", "30 */6 * * *", "0 0 * * *", "30 0 * * *", "0 1 * * *",
    "30 1 * * *", "0 2 * * *", "15 2 * * *", "30 2 * * *", "0,30 2 * * *", "*/10 2 * * *", "20,40 2 * * *",
    "0 3 * * *", "30 2,3 * * *", "0 1-4 * * *", "*/30 1-3 * * *", "45 23 * * *", "0 22-4 * * *",
    "30 22-2/2 * * *", "0 6 * * 1-5", "30 2 * * 0", "30 2 * * 7", "0 4 * * sun", "15 3 * * MON,wed",
    "0 12 * * 5-7", "0 12 * * sat-mon", "0 12 * * 6-2", "0 0 * * */2", "0 5 * * 1-7/3", "0 0 * * 0",
    "0 0 1 * *", "30 2 1 * *", "0 0 1 */3 *", "0 0 1 1 *", "0 12 15 * 1", "0 12 13 * 5", "0 0 */2 * *",
    "0 0 */2 * 3", "0 0 1-7 * 1", "0 0 29 2 *", "0 0 31 * *", "0 6 30,31 * *", "0 0 l * *", "30 2 L * *",
    "0 0 15,L * *", "0 9 20-L * *", "0 0 1 jan,jul *", "0 0 1 NOV-feb *", "0 0 1 4-1/3 *", "0 0 25/2 * *",
    "0 8 ? * 2", "0 8 10 * ?", "0 9 * * 1#1", "0 9 * * fri#5", "0 9 * * 2#3,4#1", "0 9 * * mon-wed#2",
    "0 9 * * L5", "0 9 * * L7", "0 0 1W * *", "0 0 15w * *", "0 0 w28 * *", "0 * 1 * *", "0 * * * 1-5",
    "*/15 * * * 1-5", "0 * * * 0", "0 * * * 6", "*/15 9-17 * * 1-5", "05 04 03 02 *", "0 0 2-30/7 * 1-5",
    # With seconds, which come last.
    "* * * * * 0", "* * * * * */15", "30 2 * * * 30", "0 * * * * 10,50", "0 12 * * 1-5 59", "*/2 1-3 * * * 7/20",
]


def moment(seconds):
    return pendulum.from_timestamp(seconds)


def seconds(at):
    assert at.microsecond == 0
    return int(at.timestamp())


def offset(zone, at):
    return datetime.fromtimestamp(at, timezone.utc).astimezone(zone).utcoffset()


def changes(zone, begin, end):
    """The moments at which the clocks of a zone change."""
    found = []
    for at in range(begin, end, 43200):
        low, high = at, at + 43200
        if offset(zone, low) == offset(zone, high):
            continue
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if offset(zone, middle) == offset(zone, low) else (low, middle)
        found.append(high)
    return found


class Ticks:
    """The ticks of one expression in one zone, in whole seconds."""

    def __init__(self, cron, zone):
        self.table = CronTriggerTimetable(cron, timezone=zone)

    def next(self, at):
        return seconds(self.table._get_next(moment(at)))

    def previous(self, at):
        return seconds(self.table._get_prev(moment(at)))

    def before(self, at):
        """Some moment from which a chain has its place: two ticks back."""
        return self.previous(self.previous(at))

    def chain(self, after, until, limit):
        ticks = []
        while len(ticks) < limit and (not ticks or ticks[-1] < until):
            after = self.next(after)
            ticks.append(after)
        return ticks


def steps(ticks, after, chain):
    runs = []
    for tick in chain:
        step = ("" if ticks.previous(tick) == after or tick == chain[0] else "<") + str(tick - after)
        if runs and runs[-1][0] == step:
            runs[-1][1] += 1
        else:
            runs.append([step, 1])
        after = tick
    return " ".join(step if times == 1 else f"{step}x{times}" for step, times in runs)


def main():
    chance = random.Random(17)
    lines, incoherent = [], 0
    for name, span in ZONES.items():
        zone = ZoneInfo(name)
        begin, end = (seconds(pendulum.parse(day)) for day in span)
        turns = changes(zone, begin, end)
        lines.append(f"zone {name}")
        for cron in CRONS:
            lines.append(f"cron {cron}")
            ticks = Ticks(cron, name)
            usual = ticks.next(ticks.next(begin)) - ticks.next(begin)
            _, hour, day, _, weekday = cron.split()[:5]
            hourly_on_some_days = hour == "*" and (day, weekday) != ("*", "*")

            # Over every change of the clocks, from near and from far.
            starts = [] if usual >= 86400 else [
                (turn - (600 if usual < 60 else 10800) - 417, turn + (300 if usual < 60 else 12000)) for turn in turns
            ]
            if usual >= 3600:
                starts += [(turn - 3 * 86400, turn + 3 * 86400) for turn in turns[:3]]
            starts.append((begin, begin + 40 * 86400))
            for start, until in starts:
                after = ticks.before(start)
                chain = ticks.chain(after, until, 400 if until - start < 86400 else 14)
                lines.append(f"chain {after} {steps(ticks, after, chain)}")

            # Moments of any kind: the answer is that of the chain they are in.
            asked = [chance.randrange(begin, end) for _ in range(3)]
            asked += [chance.choice(turns) + chance.randrange(-5400, 5400) for _ in range(3) if turns]
            for at in asked:
                back = 900 if usual < 60 else 10800
                # Near a change, Airflow's way back may lead forward.
                while any(abs(at - back - turn) < 7200 for turn in turns):
                    back += 3600
                # Of what leaves days out, a change moves the first tick after it, which may be weeks away.
                changed = max((turn for turn in turns if turn <= at), default=at)
                if hourly_on_some_days and at - changed < 45 * 86400:
                    back = max(back, at - changed + 10800)
                last = ticks.before(at - back)
                while (following := ticks.next(last)) <= at:
                    last = following
                if at != last:
                    direct = (ticks.previous(at), ticks.next(at))
                    incoherent += direct != (last, following)
                    lines.append(f"ask {at} {last - at} {following - at}")

            # The decision of the scheduler, away from changes.
            for _ in range(4):
                now = chance.randrange(begin, end)
                if any(abs(now - turn) < 3 * 86400 for turn in turns):
                    continue
                catchup = chance.random() < 0.5
                start = now - chance.choice([0, 1, 20, 400]) * 86400 + chance.randrange(-7000, 7000)
                if any(abs(start - turn) < 3 * 86400 for turn in turns):
                    continue
                latest = chance.choice([None, None, None, now + chance.randrange(-86400, 864000)])
                last = None
                if start < now and chance.random() < 0.6:
                    last = ticks.next(chance.randrange(start, now))
                    if last > now:
                        last = None
                with mock.patch("airflow.timetables.trigger.utcnow", lambda: moment(now)):
                    info = ticks.table.next_dagrun_info(
                        last_automated_data_interval=last and DataInterval.exact(moment(last)),
                        restriction=TimeRestriction(moment(start), latest and moment(latest), catchup),
                    )
                said = [now, int(catchup), start, latest or "-", last or "-", info and seconds(info.run_after) or "-"]
                lines.append("info " + " ".join(map(str, said)))
    head = [
        "# Made by schedules.py, which says what the lines mean: Airflow 3.3.2.",
        f"# Asked directly, Airflow answers {incoherent} of the moments otherwise than by its own chain of ticks.",
    ]
    Path(__file__).with_name("schedules.txt").write_text("\n".join(head + lines) + "\n")


if __name__ == "__main__":
    assert timedelta(0) == datetime.now(timezone.utc).utcoffset()
    main()
