"""Endpoints and fields stay plain values although they keep what they derive from themselves."""

from __future__ import annotations

import copy
import dataclasses
import pickle

from st_pipelines.catalog.registry import load_catalog


def test_derived_values_are_no_part_of_an_endpoint() -> None:
    fresh = dataclasses.replace(load_catalog()["jpm.jobs"])
    used = dataclasses.replace(load_catalog()["jpm.jobs"])
    assert used.table == "jpm.jobs"
    assert used.can_look_up
    assert used.columns[0].column == "id"

    assert used == fresh
    assert repr(used) == repr(fresh)
    assert dataclasses.asdict(used) == dataclasses.asdict(fresh)
    assert pickle.loads(pickle.dumps(used)) == fresh
    assert copy.deepcopy(used) == fresh


def test_a_changed_endpoint_derives_its_values_anew() -> None:
    jobs = load_catalog()["jpm.jobs"]
    assert jobs.table == "jpm.jobs"
    assert jobs.has_key

    changed = dataclasses.replace(jobs, name="others", key=(), columns=jobs.columns[:1])

    assert changed.table == "jpm.others"
    assert not changed.has_key
    assert changed.row_fields == jobs.columns[:1]
