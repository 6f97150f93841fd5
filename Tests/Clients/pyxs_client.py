"""pyxs, the Python client from PyPI, against the daemon of XENSTORED_PATH or XENSTORED_RUNDIR.

Prints a line a check: "ok" or what went wrong, a tab, and the check's name.
"""

import errno
import os
import threading

from pyxs import Client
from pyxs.exceptions import PyXSError

TOP = b"/client-tests/pyxs"
SOCKET = os.environ.get("XENSTORED_PATH") or os.environ["XENSTORED_RUNDIR"] + "/socket"


def client():
    return Client(unix_socket_path=SOCKET)


def refused(error, action, *arguments):
    """Asserts that the action is refused with just this errno."""
    try:
        action(*arguments)
    except PyXSError as refusal:
        assert refusal.args[0] == error, refusal
    else:
        raise AssertionError("not refused")


def events(monitor, count):
    """The next events of the monitor, each within five seconds."""
    return [(event.path, event.token) for event in (monitor.events.get(timeout=5) for _ in range(count))]


def write_and_read(c):
    c[TOP + b"/a"] = b"hello"
    assert c[TOP + b"/a"] == b"hello"
    c.write(TOP + b"/a", b"x" * 2000)
    assert c.read(TOP + b"/a") == b"x" * 2000


def read_of_what_is_absent(c):
    refused(errno.ENOENT, c.read, TOP + b"/none")
    assert c.read(TOP + b"/none", b"default") == b"default"
    assert not c.exists(TOP + b"/none")


def directories(c):
    c.mkdir(TOP + b"/d/e")
    c.mkdir(TOP + b"/d/f")
    assert c.exists(TOP + b"/d/e")
    assert sorted(c.list(TOP + b"/d")) == [b"e", b"f"]
    assert c.list(TOP + b"/d/e") == []
    assert [path for path, _, _ in c.walk(TOP + b"/d")][0] == TOP + b"/d"


def removal(c):
    c.mkdir(TOP + b"/r/x/y")
    c.delete(TOP + b"/r")
    assert not c.exists(TOP + b"/r/x/y")
    refused(errno.ENOENT, c.delete, TOP + b"/r/x/y")
    refused(errno.EINVAL, c.delete, b"/")


def permissions(c):
    c.mkdir(TOP + b"/p")
    assert c.get_perms(TOP + b"/p") == [b"n0"]
    c.set_perms(TOP + b"/p", [b"b0", b"r5", b"w7"])
    assert c.get_perms(TOP + b"/p") == [b"b0", b"r5", b"w7"]


def domains(c):
    assert c.get_domain_path(7) == b"/local/domain/7"
    assert c.is_domain_introduced(30000) is False


def a_transaction_commits(c):
    c.transaction()
    c[TOP + b"/t/a"] = b"1"
    c[TOP + b"/t/b"] = b"2"
    with client() as other:
        assert not other.exists(TOP + b"/t")
    assert c.commit()
    assert sorted(c.list(TOP + b"/t")) == [b"a", b"b"]


def a_transaction_rolls_back(c):
    c.transaction()
    c[TOP + b"/rolled/back"] = b"1"
    c.rollback()
    assert not c.exists(TOP + b"/rolled")


def a_conflict_is_seen_and_tried_again(c):
    path = TOP + b"/counter"
    c[path] = b"0"
    outcomes = []
    for _ in range(2):
        c.transaction()
        value = int(c[path])
        if not outcomes:
            with client() as other:
                other[path] = b"10"
        c[path] = str(value + 1).encode()
        outcomes.append(c.commit())
    assert outcomes == [False, True], outcomes
    assert c[path] == b"11"


def two_transactions_on_one_connection(c):
    second = Client(router=c.router)
    one, other = TOP + b"/one", TOP + b"/other"
    c[one] = c[other] = b"0"
    c.transaction()
    second.transaction()
    assert c.tx_id != second.tx_id
    c[one] = b"1"
    second[other] = b"2"
    assert c.commit()
    assert second.commit()
    assert (c[one], c[other]) == (b"1", b"2")


def a_monitor_is_told_of_changes(c):
    path = TOP + b"/watched"
    with c.monitor() as m:
        m.watch(path, b"token")
        assert events(m, 1) == [(path, b"token")]
        c[path] = b"1"
        c[path + b"/below"] = b"2"
        c.delete(path)
        assert events(m, 3) == [(path, b"token"), (path + b"/below", b"token"), (path, b"token")]
        refused(errno.EEXIST, m.watch, path, b"token")
        refused(errno.ENOENT, m.unwatch, path, b"other token")
    c[path] = b"3"
    assert m.events.empty()


def a_transaction_tells_at_its_commit(c):
    path, elsewhere = TOP + b"/watched-in-transaction", TOP + b"/elsewhere"
    c[path] = c[elsewhere] = b"0"
    with client() as other:
        with c.monitor() as m:
            m.watch(path, b"t")
            assert events(m, 1) == [(path, b"t")]
            other.transaction()
            other[path] = b"1"
            c[elsewhere] = b"2"
            assert m.events.empty()
            assert other.commit()
            assert events(m, 1) == [(path, b"t")]


def special_watches(c):
    with c.monitor() as m:
        m.watch(b"@introduceDomain", b"i")
        m.watch(b"@releaseDomain", b"r")
        assert sorted(events(m, 2)) == [(b"@introduceDomain", b"i"), (b"@releaseDomain", b"r")]


def threads_share_a_connection(c):
    def work(number):
        for turn in range(25):
            path = TOP + b"/threads/%d-%d" % (number, turn)
            c[path] = path
            assert c[path] == path

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(c.list(TOP + b"/threads")) == 100


CHECKS = [
    write_and_read, read_of_what_is_absent, directories, removal, permissions, domains, a_transaction_commits,
    a_transaction_rolls_back, a_conflict_is_seen_and_tried_again, two_transactions_on_one_connection,
    a_monitor_is_told_of_changes, a_transaction_tells_at_its_commit, special_watches, threads_share_a_connection,
]

for check in CHECKS:
    name = check.__name__.replace("_", " ")
    try:
        with client() as c:
            check(c)
        print("ok", name, sep="\t", flush=True)
    except Exception as problem:
        print(repr(problem).replace("\t", " "), name, sep="\t", flush=True)
