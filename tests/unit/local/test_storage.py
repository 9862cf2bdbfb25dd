"""What Cloud Storage's emulator leaves behind is removed, and nothing else."""

from pathlib import Path

from infra.local.storage import sweep


def test_only_the_metadata_of_deleted_buckets_goes(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    for name in ("kept.bucketMetadata", "gone.bucketMetadata", "file.txt"):
        (tmp_path / name).touch()
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    (uploads / ".broken123").touch()
    sweep(tmp_path, uploads)
    left = ["file.txt", "kept", "kept.bucketMetadata", "uploads"]
    assert sorted(path.name for path in tmp_path.iterdir()) == left
    assert list(uploads.iterdir()) == []
