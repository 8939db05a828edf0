# SPDX-License-Identifier: PostgreSQL
"""The instruments are checked before anything is measured with them."""

import harness


def test_standbys_replay_what_the_primary_commits(fleet):
    fleet.primary.sql("UPDATE items SET n = n + 1 WHERE id = 1")
    want = fleet.primary.value("SELECT n FROM items WHERE id = 1")
    fleet.sync()
    for s in fleet.standbys:
        assert s.value("SELECT n FROM items WHERE id = 1") == want
        assert s.value(f"SELECT {harness.WHERE}") == s.name


def test_paused_replay_shows_the_past_until_resumed(fleet):
    fleet.sync()
    fleet.pause_replay(1)
    before = fleet.primary.value("SELECT n FROM items WHERE id = 2")
    fleet.primary.sql("UPDATE items SET n = n + 1 WHERE id = 2")
    assert fleet.servers[1].value("SELECT n FROM items WHERE id = 2") == before
    fleet.resume_replay(1)
    fleet.sync()
    assert fleet.servers[1].value("SELECT n FROM items WHERE id = 2") == before + 1


def test_delay_holds_commits_back(fleet):
    fleet.sync()
    fleet.set_delay(2, 400)
    before = fleet.primary.value("SELECT n FROM items WHERE id = 3")
    fleet.primary.sql("UPDATE items SET n = n + 1 WHERE id = 3")
    assert fleet.servers[2].value("SELECT n FROM items WHERE id = 3") == before
    harness.wait_until(lambda: fleet.servers[2].value("SELECT n FROM items WHERE id = 3") == before + 1,
                       5, "the delayed commit to be replayed")


def test_raw_client_speaks_to_plain_postgresql(fleet, raw):
    c = raw(harness.Direct(fleet))
    assert c.query_rows("SELECT 1, NULL, 'x'") == [["1", None, "x"]]
    for user in ("u_md5", "u_scram", "u_plain"):
        c = raw(harness.Direct(fleet), user=user, password=harness.PASSWORD)
        assert c.query_rows("SELECT current_user") == [[user]]


def test_servers_restart_at_once_and_come_back(small_fleet):
    small_fleet.restart(1, "immediate")
    small_fleet.kill(1)
    small_fleet.start(1)
    small_fleet.sync()
