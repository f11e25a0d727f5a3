"""Engine of the fuzz campaign: drawn inputs for as long as asked, every outcome counted, and every fault shrunk."""

from __future__ import annotations

import json
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.errors
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

import neurobridge
from neurobridge.store.atomic import write_text

PACKAGE = Path(neurobridge.__file__).parent
#: Errors that Python raises by itself; a message of the package's own is never of these classes alone.
_ACCIDENTS = (AssertionError, AttributeError, IndexError, KeyError, NameError, RecursionError, ZeroDivisionError)


class Refused(Exception):  # noqa: N818  # an outcome, not an error
    """Outcome of a call that the package refused with an error of its own."""


def is_own(error: BaseException) -> bool:
    """Return True for an error that the package raised on purpose, in the form found / expected / Mend.

    The statement that raised it stands in the package (not in a library below it), and its message says what was
    expected or how to mend it.
    """
    if isinstance(error, _ACCIDENTS):
        return False
    frames = traceback.extract_tb(error.__traceback__)
    inside = bool(frames) and Path(frames[-1].filename).is_relative_to(PACKAGE)
    message = str(error)
    return inside and ("expected" in message or "Mend" in message)


class Campaign:
    """Counts of the outcomes of every entrance, and the seconds that each may take.

    Parameters
    ----------
    seconds : float
        For each entrance.
    seed : int
        Of the first batch of inputs; the batches after it count up from there.
    """

    def __init__(self, seconds: float, seed: int) -> None:
        self.seconds, self.seed = seconds, seed
        self.counts: dict[str, Counter[str]] = {}

    def run(
        self, entrance: str, strategy: SearchStrategy[Any], check: Callable[[Any], None], *, batch: int = 25
    ) -> None:
        """Draw inputs and check them until the time is over, at least one batch.

        Parameters
        ----------
        entrance : str
            Name in the table of counts.
        strategy : hypothesis strategy
        check : callable
            Takes a drawn input; raises `Refused` where the package refused it (see `attempt`), any other error is a fault.
        """
        counts = self.counts.setdefault(entrance, Counter())
        end = time.monotonic() + self.seconds

        def once(drawn: Any) -> None:
            if time.monotonic() > end and counts["inputs"] and not counts["faults"]:
                return
            counts["inputs"] += 1
            try:
                check(drawn)
            except Refused:
                counts["refused"] += 1
            except hypothesis.errors.UnsatisfiedAssumption:
                counts["inputs"] -= 1
                raise
            except BaseException:
                counts["faults"] += 1
                raise
            else:
                counts["accepted"] += 1

        number = self.seed
        while number == self.seed or time.monotonic() < end:
            cases = settings(
                max_examples=batch,
                deadline=None,
                database=None,
                derandomize=False,
                suppress_health_check=list(HealthCheck),
                report_multiple_bugs=False,
                phases=(Phase.generate, Phase.shrink),
            )
            hypothesis.seed(number)(cases(given(strategy)(once)))()
            number += 1

    def write(self, path: Path) -> None:
        """Add the counts of this process to a table of JSON lines."""
        lines = [json.dumps({"entrance": name, **counts}) for name, counts in self.counts.items()]
        before = path.read_text() if path.is_file() else ""
        write_text(path, before + "".join(f"{line}\n" for line in lines))


@contextmanager
def attempt() -> Iterator[None]:
    """Turn errors of the package's own into `Refused`; warnings are let through unseen."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except Exception as error:
            if is_own(error):
                raise Refused(str(error)) from error
            raise
