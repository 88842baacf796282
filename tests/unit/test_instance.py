"""What a child is given to start with."""

from __future__ import annotations

import pytest

from variet.engine.instance import child_environment


def test_a_child_gets_no_secrets_and_asks_for_huge_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setenv("SOME_API_KEY", "x")
    monkeypatch.setenv("HF_TOKEN", "x")
    made = child_environment({})
    assert made["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1" and made["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert not {"SOME_API_KEY", "HF_TOKEN"} & set(made)


def test_what_the_owner_sets_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.arena_max=2")
    assert child_environment({})["GLIBC_TUNABLES"] == "glibc.malloc.arena_max=2"
    assert child_environment({"GLIBC_TUNABLES": "", "CUDA_DEVICE_ORDER": "FASTEST_FIRST"}) == {
        **child_environment({}), "GLIBC_TUNABLES": "", "CUDA_DEVICE_ORDER": "FASTEST_FIRST",
    }  # fmt: skip
