"""Holds a config against what a run's name stands for, and claims the name; without Prefect."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from seal_core.errors import InputError
from storage.runs.importing import is_imported
from storage.runs.leases import Lease, hold_run
from storage.runs.registry import find_run, get_run, register_run
from storage.store import Store
from storage.tables.store_rows import RunRow
from tasks.opening.preflight import Preflight


@dataclass(frozen=True)
class Named:
    """A run whose name may be used for it, and whose model's files are digested.

    Attributes:
        is_new: Whether nobody has registered it yet.
    """

    store: Store
    checked: Preflight
    fork: str | None
    is_new: bool

    def register(self, note: Callable[[str], None]) -> RunRow:
        """Claims the name: the first write of a run's own.

        Args:
            note: Told of damage to the run's record that was mended.

        Raises:
            InputError: somebody was faster and claimed the name for another config.
        """
        checked = self.checked
        return register_run(
            self.store,
            checked.name,
            checked.identity(),
            checked.config.execution.shard_size,
            parent_run=self.fork,
            note=note,
        )


def check_name(
    checked: Preflight, fork: str | None = None, note: Callable[[str], None] = lambda message: None
) -> Named:
    """Opens the store and holds the config against what the run's name stands for there.

    The name stands for the config and for what its paths hold: a run whose data or model changed
    under the same path would mix old rows with new ones.

    Args:
        fork: A run whose finished work this one starts from.
        note: Told of damage to the store's record that was mended.

    Raises:
        InputError: the store is not writable, or the name belongs to another config, to other
            data or to another model; or there is no run to fork.
    """
    store = Store.open(checked.config.execution.store)
    if store.mended:
        note(store.mended)
    if fork is not None and is_imported(get_run(store, fork)):
        raise InputError(f"run {fork!r} was imported and has no work to fork: leave --fork out")
    checked = checked.digested(store)
    found = find_run(store, checked.name, checked.identity(), parent_run=fork)
    return Named(store, checked, fork, is_new=found is None)


def check_free(named: Named) -> None:
    """Passes if nobody executes the run.

    Raises:
        InputError: another process does.
    """
    with hold(named.store, named.checked.name):
        pass


def hold(store: Store, name: str) -> AbstractContextManager[Lease | None]:
    """The right to execute the run; `InputError` while another process has it."""
    busy = (
        f"run {name!r} is being executed by another process: wait for it, or choose another --name"
    )
    return hold_run(store, name, busy)
