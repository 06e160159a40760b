"""Which checkpoint is used, when a new one gets its name, and which ones go."""

from pathlib import Path

import pytest

from openrlhf_prefix.checkpoint import manifest
from openrlhf_prefix.checkpoint.store import PARTIAL, REPLACED, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "_actor")


def save(store: Store, tag: str, size: int = 10) -> None:
    """A complete checkpoint with one file of `size` bytes."""
    partial = store.begin(tag)
    (partial / "model.pt").write_bytes(b"w" * size)
    manifest.write(partial, manifest.seal(partial, ["model.pt"]), {"tag": tag})
    store.commit(tag)


def test_the_newest_is_the_one_of_the_highest_step_not_of_the_last_letter(store: Store) -> None:
    for step in (9, 10, 2):
        save(store, f"global_step{step}")
    choice = store.choose()
    assert choice.checkpoint.tag == "global_step10" and choice.checkpoint.step == 10
    assert choice.checkpoint.facts == {"tag": "global_step10"} and choice.passed_over == []


def test_the_best_of_a_step_is_later_than_the_regular_one_of_it(store: Store) -> None:
    """It is saved after the evaluation of that step."""
    save(store, "best_global_step4")
    save(store, "global_step4")
    assert store.choose().checkpoint.tag == "best_global_step4"
    save(store, "global_step6")
    assert store.choose().checkpoint.tag == "global_step6"


def test_damaged_ones_are_named_and_the_one_before_them_is_used(store: Store) -> None:
    for step in (2, 4, 6):
        save(store, f"global_step{step}")
    (store.folder / "global_step6" / "model.pt").unlink()
    (store.folder / "global_step4" / "model.pt").write_bytes(b"v" * 10)
    choice = store.choose()
    assert choice.checkpoint.tag == "global_step2"
    assert choice.passed_over[0] == "global_step6: model.pt is missing"
    assert choice.passed_over[1].startswith("global_step4: model.pt does not hold what was written")


def test_nothing_to_choose_from(store: Store) -> None:
    assert store.choose().checkpoint is None
    store.begin("global_step2")
    choice = store.choose()
    assert choice.checkpoint is None and choice.passed_over == ["global_step2: the save was not finished"]


def test_an_unfinished_save_leaves_the_old_ones_and_is_cleared_by_the_next(store: Store) -> None:
    save(store, "global_step2")
    (store.begin("global_step4") / "model.pt").write_bytes(b"half")
    assert store.choose().checkpoint.tag == "global_step2"
    save(store, "global_step4")
    assert [entry.name for entry in sorted(store.folder.iterdir())] == ["global_step2", "global_step4"]


def test_a_damaged_one_is_replaced_by_the_next_save_of_its_step(store: Store) -> None:
    save(store, "global_step2")
    (store.folder / "global_step2" / "model.pt").unlink()
    save(store, "global_step2")
    assert store.choose().checkpoint.tag == "global_step2"
    assert not list(store.folder.glob(f"{REPLACED}*")) and not list(store.folder.glob(f"{PARTIAL}*"))


def test_the_last_k_and_the_best_stay(store: Store) -> None:
    """Five regular ones and a best before them, two are to be kept: steps 8 and 10, and the best of step 4."""
    save(store, "best_global_step4")
    for step in (2, 4, 6, 8, 10):
        save(store, f"global_step{step}")
    assert store.prune("global_step10", keep=2) == ["global_step6", "global_step4", "global_step2"]
    assert store.tags() == ["global_step10", "global_step8", "best_global_step4"]


def test_a_new_best_takes_the_place_of_the_old_one_alone(store: Store) -> None:
    for tag in ("global_step2", "best_global_step2", "global_step4", "best_global_step4"):
        save(store, tag)
    assert store.prune("best_global_step4", keep=2) == ["best_global_step2"]
    assert store.prune("global_step4", keep=1) == ["global_step2"]
    assert store.tags() == ["best_global_step4", "global_step4"]


def test_what_a_resume_passed_over_goes_when_the_run_has_saved_again(store: Store) -> None:
    for step in (2, 6):
        save(store, f"global_step{step}")
    (store.folder / "global_step6" / "model.pt").unlink()
    save(store, "global_step4")
    assert store.prune("global_step4", keep=2) == ["global_step6"]
    assert store.tags() == ["global_step4", "global_step2"]


def test_the_oldest_go_until_all_fit_but_never_the_newest(store: Store) -> None:
    """Each takes 1000 bytes and its manifest's some 250: 2600 bytes hold two of them."""
    for step in (2, 4, 6):
        save(store, f"global_step{step}", size=1000)
    assert store.prune("global_step6", keep=3, max_bytes=2700) == ["global_step2"]
    assert store.prune("global_step6", keep=3, max_bytes=1) == ["global_step4"]
    assert store.tags() == ["global_step6"]


def test_a_name_that_is_none_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="'latest' is no name"):
        store.begin("latest")
