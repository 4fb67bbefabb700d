"""The log of what is committed. Promises:

1. Entries are read back in order, whoever appended; a number is given away once.
2. After a claim, nothing of an older epoch can be appended, whatever the older writer knew.
3. Saying an entry again changes nothing, so a write of unknown outcome can be tried again.
4. A torn, foreign or missing entry is one line that names it; what a listing missed is no gap.
5. `sweep` removes older epochs' losers and temporary files, never a named file nor a newer driver's; a named file that is gone is an error.
6. An output without a manifest is taken in whole by its first claim.
7. Ten thousand entries are read in a moment.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agentscaler.errors import ShardError
from agentscaler.shards import manifest as module
from agentscaler.shards import schema
from agentscaler.shards.files import shard_paths, write_parquet
from agentscaler.shards.manifest import Entry, EntryKind, Fenced, Manifest, damaged, digest_of, file_name
from agentscaler.shards.storage import AnyPath, folder, write_bytes_atomic
from tests.shards.made import played
from tests.shards.stores import s3_bucket


def put(output: AnyPath, epoch: int, number: int, kind: EntryKind = EntryKind.SHARD, data: bytes = b"rows") -> str:
    file = file_name(kind, epoch, number)
    write_bytes_atomic(output / file, data)
    return file


def name(manifest: Manifest, epoch: int, file: str, data: bytes = b"rows") -> None:
    kind = EntryKind.SHARD if file.startswith("shards/") else EntryKind.ATTEMPTS
    manifest.append(epoch, kind, file, 1, len(data), digest_of(data))


def named(output: AnyPath) -> list[str]:
    manifest = Manifest(output)
    manifest.entries()
    return [entry.file for entry in manifest.named()]


def test_entries_come_back_in_order(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path)
    assert manifest.entries() == [] and not manifest.exists
    assert manifest.claim() == 1
    files = [put(tmp_path, 1, number) for number in range(3)]
    files.append(put(tmp_path, 1, 1, EntryKind.ATTEMPTS))
    for file in files:
        name(manifest, 1, file)
    assert files[-1] == "attempts/attempts-0001-00001.parquet"
    assert named(tmp_path) == files and Manifest(tmp_path).claim() == 2
    assert [path.name for path in sorted((tmp_path / "manifest").iterdir())] == [f"{n:08d}.json" for n in range(1, 7)]
    assert [entry.kind for entry in manifest.entries()].count(EntryKind.CLAIM) == 2
    assert (tmp_path / "manifest" / "00000002.json").read_text() == (
        '{"epoch":1,"kind":"shard","file":"shards/shard-0001-00000.parquet","rows":1,"size_bytes":4,'
        f'"digest":"{digest_of(b"rows")}"}}'
    )


def test_claims_at_once_get_epochs_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(6) as pool:
        epochs = list(pool.map(lambda _: Manifest(tmp_path).claim(), range(12)))
    assert sorted(epochs) == list(range(1, 13))
    assert [entry.epoch for entry in Manifest(tmp_path).entries()] == list(range(1, 13))


def test_an_older_driver_is_fenced(tmp_path: Path) -> None:
    older, fresh = Manifest(tmp_path), Manifest(tmp_path)
    assert older.claim() == 1
    name(older, 1, "shards/a.parquet")
    assert fresh.claim() == 2
    name(fresh, 2, "shards/b.parquet")
    for late in (older, Manifest(tmp_path)):  # one that saw nothing, one that reads it all
        with pytest.raises(
            Fenced, match=rf"^output={tmp_path}: another driver has taken it over \(epoch 2; this one has 1\)$"
        ):
            name(late, 1, "shards/c.parquet")
        with pytest.raises(Fenced):
            late.sweep(1)
    assert named(tmp_path) == ["shards/a.parquet", "shards/b.parquet"]
    with pytest.raises(ValueError, match="epoch 3 was never claimed"):
        name(fresh, 3, "shards/d.parquet")


def test_saying_it_again_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = Manifest(tmp_path)
    manifest.claim()
    real = module.create_exclusive

    def breaks_off(path: AnyPath, data: bytes) -> bool:
        real(path, data)
        raise OSError("the connection broke off after the server had done it")

    monkeypatch.setattr(module, "create_exclusive", breaks_off)
    with pytest.raises(OSError, match="broke off"):
        name(manifest, 1, "shards/a.parquet")
    monkeypatch.setattr(module, "create_exclusive", real)
    name(manifest, 1, "shards/a.parquet")
    name(manifest, 1, "shards/b.parquet")
    assert named(tmp_path) == ["shards/a.parquet", "shards/b.parquet"]


def _torn(path: Path) -> str:
    path.write_bytes(path.read_bytes()[:30])
    return "is no entry of a manifest: "


def _empty(path: Path) -> str:
    path.write_bytes(b"")
    return "is no entry of a manifest: "


def _other_keys(path: Path) -> str:
    path.write_text('{"epoch": 1, "kind": "claim", "owner": "x", "more": 1}')
    return "is no entry of a manifest: "


def _elsewhere(path: Path) -> str:
    path.write_text('{"epoch": 1, "kind": "shard", "file": "shards/../../x.parquet", "rows": 1, "digest": "d"}')
    return "is no entry of a manifest: "


def _gone(path: Path) -> str:
    path.unlink()
    return "is missing, though later entries are there"


@pytest.mark.parametrize("spoil", [_torn, _empty, _other_keys, _elsewhere, _gone])
def test_a_broken_entry_is_one_line_that_names_it(tmp_path: Path, spoil: Callable[[Path], str]) -> None:
    manifest = Manifest(tmp_path)
    manifest.claim()
    for number in range(3):
        name(manifest, 1, f"shards/{number}.parquet")
    path = tmp_path / "manifest" / "00000002.json"
    words = spoil(path)
    with pytest.raises(ShardError) as caught:
        shard_paths(tmp_path)
    assert str(caught.value).startswith(f"{path}: {words}") and "\n" not in str(caught.value)


def test_a_foreign_file_among_the_entries(tmp_path: Path) -> None:
    Manifest(tmp_path).claim()
    for other in (".nfs00001", "00000002.json.77-ab.tmp"):
        (tmp_path / "manifest" / other).write_text("half")
    assert len(Manifest(tmp_path).entries()) == 1
    (tmp_path / "manifest" / "notes.txt").write_text("")
    with pytest.raises(ShardError, match=r"manifest/notes\.txt: is no entry of a manifest$"):
        Manifest(tmp_path).entries()
    other = tmp_path / "other"
    write_bytes_atomic(
        other / "manifest" / "00000001.json", b'{"epoch":1,"kind":"shard","file":"shards/a","digest":"d"}'
    )
    with pytest.raises(ShardError, match="begins with a claim"):
        Manifest(other).entries()


def test_what_a_listing_missed_is_no_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is written while it is listed may show a later file and not an earlier one."""
    for _ in range(4):
        Manifest(tmp_path).claim()
    real = module.list_files
    monkeypatch.setattr(
        module, "list_files", lambda place: {k: v for k, v in real(place).items() if k != "00000002.json"}
    )
    assert [entry.epoch for entry in Manifest(tmp_path).entries()] == [1, 2, 3, 4]


def test_sweep(tmp_path: Path) -> None:
    older = Manifest(tmp_path)
    older.claim()
    kept = [put(tmp_path, 1, 1), put(tmp_path, 1, 1, EntryKind.ATTEMPTS)]
    for file in kept:
        name(older, 1, file)
    losers = [put(tmp_path, 1, 2), put(tmp_path, 1, 2, EntryKind.ATTEMPTS)]
    temporary = ["shards/shard-0001-00003.parquet.8-ab.tmp", "config.yaml.8-ab.tmp", "manifest/00000009.json.8-ab.tmp"]
    for file in temporary:
        write_bytes_atomic(tmp_path / file, b"half")
    others = ["config.yaml", "shards/mine.parquet", "shards/shard-0003-00001.parquet", "logs/x.tmp"]
    others.append("shards/shard-0003-00002.parquet.9-cd.tmp")  # a newer driver's that will claim, or has since
    for file in others:
        write_bytes_atomic(tmp_path / file, b"other")
    manifest = Manifest(tmp_path)
    epoch = manifest.claim()
    own = put(tmp_path, epoch, 1)
    assert manifest.sweep(epoch) == len(losers) + len(temporary)
    there = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert {file for file in there if not file.startswith("manifest/")} == {*kept, *others, own}
    late = put(tmp_path, 1, 4)  # the older one was alive; the end of the job sweeps once more
    assert manifest.sweep(epoch) == 1 and not (tmp_path / late).exists()
    assert damaged(tmp_path) == []
    (tmp_path / kept[0]).write_bytes(b"raws")
    assert damaged(tmp_path) == [kept[0]] and manifest.sweep(epoch) == 0
    (tmp_path / kept[0]).write_bytes(b"row")
    with pytest.raises(ShardError, match=r"shard-0001-00001\.parquet: has 3 bytes, the manifest says 4"):
        manifest.sweep(epoch)
    (tmp_path / kept[0]).unlink()
    with pytest.raises(ShardError, match=r"shard-0001-00001\.parquet: is missing, though the manifest names it"):
        manifest.sweep(epoch)
    assert damaged(tmp_path) == [kept[0]]


def test_an_old_output_is_taken_in(tmp_path: Path) -> None:
    rows = [schema.to_row(rollout) for _, rollout in played()[:5]]
    old = ["shards/shard-0001-00001.parquet", "shards/shard-0002-00001.parquet"]
    write_parquet(tmp_path / old[0], rows[:3], schema.ROLLOUTS)
    write_parquet(tmp_path / old[1], rows[3:], schema.ROLLOUTS)
    write_parquet(tmp_path / "attempts" / "attempts-0004-00001.parquet", [], schema.ATTEMPTS)
    (tmp_path / "shards" / "shard-0002-00002.parquet.123.tmp").write_bytes(b"half")
    manifest = Manifest(tmp_path)
    assert manifest.claim() == 5  # after those in the old names, which must not be written again
    assert [(entry.epoch, entry.rows) for entry in manifest.named(EntryKind.SHARD)] == [(1, 3), (2, 2)]
    assert named(tmp_path) == [*old, "attempts/attempts-0004-00001.parquet"]
    assert manifest.sweep(5) == 1 and damaged(tmp_path) == []
    assert shard_paths(tmp_path) == [tmp_path / file for file in old]
    put(tmp_path, 5, 1)  # from now on a file without a name does not count
    assert Manifest(tmp_path).claim() == 6 and named(tmp_path)[:2] == old and len(shard_paths(tmp_path)) == 2


def test_a_broken_file_is_not_taken_in(tmp_path: Path) -> None:
    write_bytes_atomic(tmp_path / "shards" / "shard-0001-00001.parquet", b"half")
    with pytest.raises(ShardError, match=r"shard-0001-00001\.parquet: not a readable Parquet file"):
        Manifest(tmp_path).claim()
    assert not (tmp_path / "manifest").exists()


def test_ten_thousand_entries_are_read_in_a_moment(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path)
    manifest.claim()
    digest = digest_of(b"rows")
    for number in range(2, 10_001):  # as append writes them, without its two flushes each
        file = file_name(EntryKind.SHARD, 1, number)
        entry = Entry(epoch=1, kind=EntryKind.SHARD, file=file, rows=512, size_bytes=4, digest=digest)
        (tmp_path / "manifest" / f"{number:08d}.json").write_text(entry.model_dump_json(exclude_defaults=True))
    started = time.process_time()
    assert len(named(tmp_path)) == 9_999
    first = time.process_time() - started
    assert len(manifest.entries()) == 10_000
    started = time.process_time()
    name(manifest, 1, "shards/a.parquet")
    print(f"10,000 entries: {first:.2f} s")
    assert first < 3 and time.process_time() - started < 0.1


def test_on_a_store() -> None:
    with s3_bucket() as bucket:
        output = folder(f"{bucket}/run")
        older = Manifest(output)
        assert older.claim() == 1
        kept = put(output, 1, 1)
        name(older, 1, kept)
        loser = put(output, 1, 2)
        fresh = Manifest(folder(f"{bucket}/run"))
        assert fresh.claim() == 2 and fresh.sweep(2) == 1
        with pytest.raises(Fenced):
            name(older, 1, loser)
        name(fresh, 2, put(output, 2, 1))
        assert named(output) == [kept, "shards/shard-0002-00001.parquet"] and damaged(output) == []
        (output / "manifest" / "00000002.json").unlink()
        with pytest.raises(ShardError, match=r"^s3://.*/manifest/00000002\.json: is missing"):
            shard_paths(output)
