"""The file of measurements, whenever its writer is killed. Oracle: what was added before."""

from __future__ import annotations

import pytest

from gr00t.eval.allocation.budget import AllocationError
from gr00t.eval.allocation.measured_errors import MeasuredErrors

FACTS = {"checkpoint": "abc", "seed": 0}
ERRORS = [({"a": 2}, 0.1 + 0.2), ({"a": 3}, 1e-17), ({"a": 2, "b": 8}, 0.25), ({}, 0.0)]


def filled(folder):
    with MeasuredErrors(folder, FACTS) as measured:
        for bits, error in ERRORS:
            measured.add(bits, error)
    return measured.path


def test_what_was_added_is_there_again_to_the_last_bit(tmp_path):
    filled(tmp_path)
    with MeasuredErrors(tmp_path, FACTS) as found:
        assert len(found) == len(ERRORS)
        assert [found[bits] for bits, _ in ERRORS] == [error for _, error in ERRORS]
        assert found[{"b": 8, "a": 2}] == 0.25
        assert {"a": 4} not in found


def test_a_kill_at_any_byte_costs_one_measurement_at_most(tmp_path):
    path = filled(tmp_path)
    content = path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(content) if byte == ord("\n")]
    for cut in range(len(content) + 1):
        path.write_bytes(content[:cut])
        with MeasuredErrors(tmp_path, FACTS) as found:
            assert len(found) == max(0, sum(end <= cut for end in ends) - 1)
            for bits, error in ERRORS:
                if bits not in found:
                    found.add(bits, error)
        assert path.read_bytes() == content


def test_other_facts_are_another_file(tmp_path):
    one = filled(tmp_path)
    with MeasuredErrors(tmp_path, {**FACTS, "seed": 1}) as other:
        assert other.path != one
        assert {"a": 2} not in other
    with MeasuredErrors(tmp_path, {"seed": 0, "checkpoint": "abc"}) as same:
        assert same.path == one


@pytest.mark.parametrize(
    ("line", "text"), [(1, '{"of": {}}'), (3, "{"), (3, '{"bits": 3, "error": 0.1}'), (2, '{"bits": {}}')]
)
def test_a_damaged_file_is_refused_by_its_line(tmp_path, line, text):
    path = filled(tmp_path)
    lines = path.read_text().splitlines()
    lines[line - 1] = text
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(AllocationError, match=rf"\.jsonl: line {line} is not what was written; delete"):
        MeasuredErrors(tmp_path, FACTS)


def test_two_do_not_write_one_file(tmp_path):
    with (
        MeasuredErrors(tmp_path, FACTS),
        pytest.raises(AllocationError, match="another process measures the same"),
    ):
        MeasuredErrors(tmp_path, FACTS)
