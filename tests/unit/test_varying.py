"""Other values for slots, and what counts as the same with the names changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmos.kernel.scratch import Snapshot
from llmos.kernel.tree import Change, Kind
from llmos.kernel.varying import Outcome, Variation, compare, variations
from llmos.settings import ProofSettings
from llmos.trace.program import Slot, SlotType, Step, Trace, Verdict
from llmos.trace.run import StepRecord

SOURCE = Variation(slot="s", old="in/sales.csv", new="in/proofq.csv", word="proofq", stem="sales", path="in/sales.csv")
TARGET = Variation(slot="t", old="out.md", new="proofk.md", word="proofk", stem="out", path="out.md")
YEAR = Variation(slot="y", old="2026", new="2027")


def wrote(**files: str) -> dict[str, Change]:
    """Changed files by path (`__` is a slash, the last `_` a dot), told apart by their text."""
    return {
        ".".join(name.replace("__", "/").rsplit("_", 1)): Change(kind=Kind.FILE, digest=text, text=text)
        for name, text in files.items()
    }


def asked(tool: str, **args: str) -> StepRecord:
    return StepRecord(index=0, tool=tool, args=args)


@pytest.mark.parametrize(
    ("own", "varied", "varied_slots", "verdict"),
    [
        # names only: the same under the new names, in each way they may be written
        (wrote(out_md="all of sales"), wrote(proofk_md="all of proofq"), [SOURCE, TARGET], Verdict.PASS),
        (wrote(out_md="# Sales\nSALES"), wrote(proofk_md="# Proofq\nPROOFQ"), [SOURCE, TARGET], Verdict.PASS),
        (wrote(out_md="| sales |\n| --- |"), wrote(out_md="| proofq   |\n| ------ |"), [SOURCE], Verdict.PASS),
        (wrote(out_md="april, sales, x"), wrote(out_md="april, x, proofq"), [SOURCE], Verdict.PASS),
        (wrote(sales_json="1"), wrote(proofq_json="1"), [SOURCE], Verdict.PASS),
        # data that mentions its own name is data
        (wrote(out_md="sales: 3"), wrote(proofk_md="sales: 3"), [SOURCE, TARGET], Verdict.PASS),
        # names only: anything else is another program
        (wrote(out_md="1"), wrote(out_md="1"), [TARGET], Verdict.FAIL),
        (wrote(sales_json="1"), wrote(sales_json="1"), [SOURCE], Verdict.FAIL),
        (wrote(sales_report_md="1"), wrote(sales_report_md="1"), [SOURCE], Verdict.FAIL),
        (wrote(wholesales_md="1"), wrote(wholesales_md="1"), [SOURCE], Verdict.PASS),
        (wrote(out_md="1"), wrote(), [TARGET], Verdict.FAIL),
        (wrote(), wrote(log_txt="1"), [SOURCE], Verdict.FAIL),
        (wrote(out_md="total 3"), wrote(out_md="total 4"), [SOURCE], Verdict.FAIL),
        # other values: only the old value's name is evidence
        (wrote(out_md="3"), wrote(out_md="0"), [YEAR], Verdict.PASS),
        (wrote(out_md="3"), wrote(), [YEAR], Verdict.PASS),
        (wrote(year__2026_md="3"), wrote(year__2027_md="4"), [YEAR], Verdict.PASS),
        (wrote(year__2026_md="3"), wrote(year__2026_md="4"), [YEAR], Verdict.FAIL),
    ],
)
def test_what_is_the_same(
    own: dict[str, Change], varied: dict[str, Change], varied_slots: list[Variation], verdict: Verdict
) -> None:
    assert compare(Outcome(changes=own), Outcome(changes=varied), varied_slots)[0] is verdict


def test_a_binary_file_that_differs_decides_nothing() -> None:
    own, varied = (Outcome(changes={"a.bin": Change(kind=Kind.FILE, digest=digest)}) for digest in ("1", "2"))
    assert compare(own, varied, [SOURCE])[0] is Verdict.UNKNOWN


def test_a_run_that_stopped_is_no_evidence_unless_it_asked_for_the_old_name() -> None:
    own = Outcome(changes={})
    stopped = Outcome(changes={}, stopped="no", records=(asked("read", file_path="in/proofq.csv"),))
    still = Outcome(changes={}, stopped="no", records=(asked("python", code="open('in/sales.csv')"),))
    assert compare(own, stopped, [SOURCE])[0] is Verdict.UNKNOWN
    assert compare(own, still, [SOURCE]) == (
        Verdict.FAIL,
        "with 'in/proofq.csv' instead of 'in/sales.csv' it still asked for sales.csv",
    )


def test_another_answer_with_nothing_but_names_changed_is_evidence() -> None:
    own = Outcome(changes={}, answer="sales has 3 rows")
    assert compare(own, Outcome(changes={}, answer="proofq has 3 rows"), [SOURCE])[0] is Verdict.PASS
    assert compare(own, Outcome(changes={}, answer="proofq has 4 rows"), [SOURCE])[0] is Verdict.FAIL


def test_a_name_that_belongs_to_another_slot_as_well_is_no_evidence() -> None:
    other = Variation(slot="o", old="sales.json", new="proofz.json", word="proofz", stem="sales", path="sales.json")
    own, varied = Outcome(changes=wrote(sales_json="1")), Outcome(changes=wrote(sales_json="1"))
    assert compare(own, varied, [SOURCE])[0] is Verdict.FAIL
    assert compare(own, varied, [SOURCE], [other])[0] is Verdict.PASS


def varied(tmp_path: Path, value: str, slot: Slot) -> Variation | None:
    """The variation of a trace's only slot."""
    workspace = tmp_path / "workspace"
    (workspace / "in").mkdir(parents=True, exist_ok=True)
    (workspace / "in" / "a.tar.gz").touch()
    snapshot = Snapshot(workspace, tmp_path / "memory", ProofSettings())
    snapshot.take()
    trace = Trace(id="t", goals=(f"do {{{slot.name}}}",), slots=(slot,), steps=(Step(id="s", tool="x", args={}),))
    found = variations(trace, {slot.name: value}, snapshot)
    snapshot.remove()
    return found[0] if found else None


PATH = Slot(name="x", type=SlotType.PATH)


@pytest.mark.parametrize(
    ("value", "slot", "new"),
    [
        ("in/b.csv", PATH, "in/proofqqqq.csv"),
        ("in/", PATH, "proofqqqq/"),
        (".env", PATH, ".proofqqqq"),
        ("in/a.tar.gz", PATH, "in/proofqqqq.tar.gz"),
        ("report", PATH, "proofqqqq"),
        ("12", Slot(name="x", type=SlotType.NUMBER), "13"),
        ("19", Slot(name="x", type=SlotType.NUMBER), "18"),
        ("10,000.5", Slot(name="x", type=SlotType.NUMBER), "10,000.6"),
        ("2026-03-01", Slot(name="x", type=SlotType.DATE), "2026-02-28"),
        ("two words", Slot(name="x", type=SlotType.QUOTED), "proofqqqq"),
        ("red", Slot(name="x", type=SlotType.CHOICE, values=("red", "green")), "green"),
    ],
)
def test_another_value_has_the_same_form(tmp_path: Path, value: str, slot: Slot, new: str) -> None:
    found = varied(tmp_path, value, slot)
    assert found is not None
    assert found.new == new


@pytest.mark.parametrize(
    ("value", "slot"),
    [
        (".", PATH),
        ("..", PATH),
        ("/etc/passwd", PATH),
        ("~/notes.txt", PATH),
        ("ada@example.org", Slot(name="x", type=SlotType.EMAIL)),
        ("red", Slot(name="x", type=SlotType.CHOICE, values=("red",))),
    ],
)
def test_what_can_not_be_made_up_stays(tmp_path: Path, value: str, slot: Slot) -> None:
    assert varied(tmp_path, value, slot) is None


def test_an_input_is_renamed_and_an_output_is_not(tmp_path: Path) -> None:
    there, new = varied(tmp_path, "in/a.tar.gz", PATH), varied(tmp_path, "in/b.csv", PATH)
    assert there is not None
    assert new is not None
    assert (there.renamed, new.renamed) == ("in/proofqqqq.tar.gz", "")


def test_a_folder_that_holds_another_slots_file_stays(tmp_path: Path) -> None:
    (tmp_path / "workspace" / "in").mkdir(parents=True)
    snapshot = Snapshot(tmp_path / "workspace", tmp_path / "memory", ProofSettings())
    snapshot.take()
    slots = (Slot(name="folder", type=SlotType.PATH), Slot(name="file", type=SlotType.PATH))
    trace = Trace(id="t", goals=("do {folder} {file}",), slots=slots, steps=(Step(id="s", tool="x", args={}),))
    found = variations(trace, {"folder": "in/", "file": "in/a.csv"}, snapshot)
    snapshot.remove()
    assert [one.slot for one in found] == ["file"]
