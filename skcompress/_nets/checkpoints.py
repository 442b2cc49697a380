"""Folders of its own for the files that skorch's checkpoints write during one training."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from skorch.callbacks import Checkpoint, TrainEndCheckpoint


class CheckpointFolders:
    """Let checkpoints write into a temporary folder, and hand the files on afterwards.

    All trainings of a search write to the one folder that the parameter `dirname` names. With
    ``load_best=True`` a training would then end with the weights of another fold, or fail on a
    file that is being written.
    """

    def __init__(self) -> None:
        self._own: list[tuple[Checkpoint, dict[str, Any]]] = []
        self._root: str | None = None

    def redirect(self, callbacks: Iterable[tuple[str, Any]]) -> None:
        """Redirect the checkpoints among a net's initialized callbacks."""
        for checkpoint in _checkpoints_in(callbacks):
            self._root = self._root or tempfile.mkdtemp(prefix="skcompress-")
            self._own.append((checkpoint, dict(vars(checkpoint))))
            checkpoint.dirname = str(Path(self._root, str(len(self._own))))
            for name, file in _files_of(checkpoint).items():
                Path(checkpoint.dirname, name).mkdir(parents=True)
                setattr(checkpoint, name, str(Path(name, Path(file).name)))
            checkpoint.fn_prefix = ""

    def restore(self) -> None:
        """Give the checkpoints their parameters back, and move the files to where these say."""
        for checkpoint, own in self._own:
            written = Path(checkpoint.dirname)
            vars(checkpoint).update(own)
            for name, file in _files_of(checkpoint).items():
                _move_into(Path(checkpoint.dirname or "", file).parent, (written / name).iterdir())
        self._own = []
        if self._root is not None:
            shutil.rmtree(self._root, ignore_errors=True)
            self._root = None


def _checkpoints_in(callbacks: Iterable[tuple[str, Any]]) -> Iterator[Checkpoint]:
    for _, callback in callbacks:
        inner = callback.checkpoint_ if isinstance(callback, TrainEndCheckpoint) else callback
        if isinstance(inner, Checkpoint):
            yield inner


def _files_of(checkpoint: Checkpoint) -> dict[str, str]:
    """Return the names of the files by parameter, with the prefix; others are not paths."""
    return {
        name: checkpoint.fn_prefix + file
        for name, file in vars(checkpoint).items()
        if name.startswith("f_") and isinstance(file, str)
    }


def _move_into(folder: Path, files: Iterable[Path]) -> None:
    for file in files:
        folder.mkdir(parents=True, exist_ok=True)
        # Beside the target first, so that nobody reads half a file.
        handle, beside = tempfile.mkstemp(dir=folder, prefix=f".{file.name}-")
        os.close(handle)
        shutil.copyfile(file, beside)
        Path(beside).replace(folder / file.name)
