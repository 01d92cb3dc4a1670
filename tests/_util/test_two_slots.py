"""Two slots written in turn: the last good state survives whatever happens to the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from pursuhint._util.atomic_files import watch_writes
from pursuhint._util.two_slots import TwoSlots
from pursuhint.errors import PursuhintError


class Counter(TwoSlots):
    """States with a number and one file that holds it."""

    restart = "count again"

    def age(self, progress):
        return (int(progress["number"]),)

    def moment(self, progress):
        return f"number {progress['number']}"

    def put(self, number: int) -> Path:
        def write(folder: Path) -> None:
            (folder / "n").write_text(str(number))

        return self.save({"number": number}, write)


def contents(store: TwoSlots) -> tuple[int, str, str | None]:
    saved = store.load()
    assert saved is not None
    return saved.progress["number"], (saved.folder / "n").read_text(), saved.notice


@pytest.fixture
def folder(tmp_path):
    """The folder of a store with the states 1 and 2."""
    store = Counter(tmp_path / "state")
    assert store.load() is None
    assert store.put(1) != store.put(2)
    return store.folder


def test_the_last_state_is_read(folder):
    assert contents(Counter(folder)) == (2, "2", None)


def test_a_new_process_overwrites_the_older_state(folder):
    store = Counter(folder)
    store.load()
    store.put(3)
    (folder / "latest").unlink()
    number, text, notice = contents(Counter(folder))
    assert (number, text) == (3, "3"), "without the name of the newest, age decides"
    assert "latest is missing or damaged" in notice
    assert sorted(path.name for path in folder.iterdir()) == ["0", "1"]


@pytest.mark.parametrize("damage", ["n", "progress.json"])
def test_a_damaged_state_falls_back_to_the_one_before(folder, damage):
    newest = folder / (folder / "latest").read_text().strip()
    (newest / damage).write_text("{}")
    number, text, notice = contents(Counter(folder))
    assert (number, text) == (1, "1")
    assert damage in notice
    assert notice.endswith("went back to the state number 1")


def test_both_damaged(folder):
    for slot in "01":
        (folder / slot / "n").write_text("")
    with pytest.raises(PursuhintError, match=r"every state in .* is damaged .*; remove .* to count again"):
        Counter(folder).load()


def test_a_failure_at_any_write_leaves_a_good_state(folder):
    seen = 0

    def count(path):
        nonlocal seen
        seen += 1

    with watch_writes(count):
        store = Counter(folder)
        store.load()
        store.put(3)
    assert seen > 5
    for failing in range(seen):
        left = failing

        def fail(path):
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError("no space left")

        store = Counter(folder)
        before = contents(store)[0]
        with watch_writes(fail), pytest.raises(PursuhintError, match="cannot save the state number 9"):
            store.put(9)
        number, text, _ = contents(Counter(folder))
        assert number in (before, 9)
        assert text == str(number)


def test_only_the_main_rank_renames(tmp_path):
    waited = []
    other = Counter(tmp_path / "state", is_main=False, wait=lambda: waited.append(1))
    (tmp_path / "state" / "writing").mkdir(parents=True)
    other.put(1)
    assert len(waited) == 3
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["writing"]
    assert (tmp_path / "state" / "writing" / "n").read_text() == "1"
