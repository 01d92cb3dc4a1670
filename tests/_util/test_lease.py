"""A lease has one holder at a time, and outlives no process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from pursuhint._util.lease import Lease, take_lease


@pytest.fixture
def path(tmp_path):
    return tmp_path / "leases" / "cell.json"


def of_a_dead_process(path, **changes):
    """A lease of a process of this machine that has ended."""
    lease = take_lease(path)
    values = json.loads(path.read_text())
    lease.release()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    path.write_text(json.dumps({**values, "pid": ended.pid, "token": "another", **changes}))


def test_it_has_one_holder_until_it_is_released(path):
    lease = take_lease(path)
    assert isinstance(lease, Lease)
    assert take_lease(path).endswith(f"process {os.getpid()}")
    lease.release()
    assert not path.exists()
    again = take_lease(path)
    assert isinstance(again, Lease)
    again.release()


def test_a_process_that_ended_holds_nothing(path):
    of_a_dead_process(path)
    lease = take_lease(path)
    assert isinstance(lease, Lease)
    lease.release()


def test_a_killed_process_that_nobody_has_waited_for_holds_nothing(path):
    code = "from pathlib import Path; import sys, time\nfrom pursuhint._util.lease import take_lease\n"
    code += "take_lease(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    assert take_lease(path).endswith(f"process {holder.pid}")
    holder.kill()
    deadline = time.monotonic() + 10
    while isinstance(lease := take_lease(path), str):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    lease.release()
    holder.wait()
    holder.stdout.close()


def test_another_process_with_the_same_number_is_not_the_holder(path):
    of_a_dead_process(path, pid=os.getpid(), start="1")
    lease = take_lease(path)
    assert isinstance(lease, Lease)
    lease.release()


def test_a_process_of_another_host_counts_as_alive_as_long_as_its_heart_beats(path):
    of_a_dead_process(path, host="elsewhere")
    assert take_lease(path).startswith("elsewhere, ")
    long_ago = time.time() - 1000
    os.utime(path, (long_ago, long_ago))
    lease = take_lease(path)
    assert isinstance(lease, Lease)
    lease.release()


def test_the_heart_beats(path):
    lease = take_lease(path, beat=0.02)
    long_ago = time.time() - 1000
    os.utime(path, (long_ago, long_ago))
    deadline = time.monotonic() + 10
    while path.stat().st_mtime < long_ago + 500:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    lease.release()


def test_who_lost_a_lease_notices_and_leaves_it_to_the_new_holder(path):
    lease = take_lease(path, beat=0.02)
    assert not lease.is_lost
    path.write_text(json.dumps({"token": "another"}))
    deadline = time.monotonic() + 10
    while not lease.is_lost:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    lease.release()
    assert json.loads(path.read_text()) == {"token": "another"}


def test_a_damaged_lease_is_nobodys(path):
    path.parent.mkdir()
    path.write_text("{half")
    lease = take_lease(path)
    assert isinstance(lease, Lease)
    lease.release()
