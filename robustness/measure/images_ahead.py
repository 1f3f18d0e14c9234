"""The images of a job, and of the next job, which a second thread makes while models are evaluated on the first."""

from __future__ import annotations

import tempfile
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from robustness.measure.jobs import Job
from robustness.measure.perturbations import PerturbedImages
from robustness.measure.tasks import Workplace


class _StoppedError(Exception):
    """The images are no longer needed."""


@dataclass(frozen=True)
class JobImages:
    """The images of a job; the folder of large ones is removed at the end of the ``with`` block."""

    images: PerturbedImages
    scratch: tempfile.TemporaryDirectory[str]

    def __enter__(self) -> PerturbedImages:
        return self.images

    def __exit__(self, *error: object) -> None:
        self.scratch.cleanup()


def prepare_images(job: Job, workplace: Workplace) -> JobImages:
    """Make the images of ``job``.

    Raises:
        UsageError: an archive or an image is damaged, or the disk is too small.
    """
    scratch = tempfile.TemporaryDirectory(dir=workplace.directory.path, prefix=".scratch-")
    try:
        return JobImages(job.tasks[0].prepare(workplace, Path(scratch.name)), scratch)
    except BaseException:
        scratch.cleanup()
        raise


class ImagesAhead:
    """A thread that makes the images of the next job ahead of time.

    Images are the same whichever thread makes them. A failure in the thread is ignored at first: the images are made
    again when their job starts, and the error is raised then. Leaving the ``with`` block stops the thread within a
    batch.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "images-ahead")
        self._stopped = threading.Event()
        self._next: tuple[Job, Future[JobImages]] | None = None

    def __enter__(self) -> ImagesAhead:
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        self._thread.shutdown()
        if self._next is not None:
            self._discard(self._next[1])

    def start(self, job: Job, workplace: Workplace) -> None:
        """Begin to make the images of ``job``, unless that has begun already."""
        if self._next is None or self._next[0] is not job:
            place = replace(workplace, check=self._check)
            self._next = job, self._thread.submit(prepare_images, job, place)

    def take(self, job: Job, workplace: Workplace) -> JobImages:
        """Return the images of ``job``: those made ahead, once, or else new ones.

        Raises:
            UsageError: as :func:`prepare_images` does.
        """
        if self._next is not None and self._next[0] is job:
            made, self._next = self._next[1], None
            if made.exception() is None:
                return made.result()
        return prepare_images(job, workplace)

    def _check(self) -> None:
        if self._stopped.is_set():
            raise _StoppedError

    @staticmethod
    def _discard(made: Future[JobImages]) -> None:
        if not made.cancelled() and made.exception() is None:
            made.result().scratch.cleanup()
