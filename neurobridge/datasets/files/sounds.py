"""Sounds of an archive, read when they are needed."""

from __future__ import annotations

import io
import wave
from collections.abc import Sequence
from pathlib import Path

import dask.array
import numpy as np

from neurobridge.datasets.files.archives import KeptArchive, lazy_rows
from neurobridge.store.archives import ArchiveError

#: Bytes of one sound file: five minutes of one channel at 48 kHz.
SOUND_BYTES = 2**25


def zip_sounds(
    path: Path | KeptArchive, names: Sequence[str], *, chunk: int = 256
) -> tuple[dask.array.Array, np.ndarray, int]:
    """Return the sounds of an archive as one lazy array; a chunk is read when it is computed.

    Every sound is read once for its length, so that a broken one is refused here.

    Parameters
    ----------
    path : path or KeptArchive
        Zip or tar file. A packed tar file is unpacked from its start for every chunk.
    names : sequence of str
        Members, wav files, in the order of the result. All must have the sampling rate of the first.
    chunk : int
        Sounds a chunk.

    Returns
    -------
    samples : dask array of shape (n_sounds, n_longest)
        int16; after the end of a sound, zeros.
    lengths : int array of shape (n_sounds,)
        Samples of each sound.
    rate : int
        Samples a second.

    Raises
    ------
    ArchiveError
        The archive is refused or lacks one of the names; a sound is broken, or of another rate than the first.
    """
    kept = path if isinstance(path, KeptArchive) else KeptArchive(path)

    def sound(name: str) -> tuple[np.ndarray, int]:
        return decode_wav(kept.open().read(name, most=SOUND_BYTES), f"{kept.path}: {name}")

    if not names:
        raise ArchiveError(f"{kept.path}: found no names of sounds; expected at least one. Mend: fetch it again.")
    lengths, rates = np.array([(len(samples), rate) for samples, rate in map(sound, names)]).T
    if len(set(rates.tolist())) > 1:
        raise ArchiveError(
            f"{kept.path}: found sampling rates of {sorted(set(rates.tolist()))} Hz; expected one. Mend: fetch it again."
        )
    longest = int(lengths.max())

    def read(rows: np.ndarray) -> np.ndarray:
        padded = np.zeros((len(rows), longest), dtype=np.int16)
        for target, row in zip(padded, rows, strict=True):
            target[: lengths[row]] = sound(names[row])[0]
        return padded

    return lazy_rows(read, len(names), (longest,), chunk, np.int16), lengths, int(rates[0])


def decode_wav(data: bytes, where: str) -> tuple[np.ndarray, int]:
    """Return the samples of a wav file, int16 array of shape (n_samples,), and their number a second.

    Parameters
    ----------
    data : bytes
        Of one channel, 16 bits a sample, not compressed.
    where : str
        Name of the file in messages.

    Raises
    ------
    ArchiveError
        The bytes are no whole wav file, or one of another kind.
    """
    try:
        with wave.open(io.BytesIO(data)) as file:
            kind = (file.getnchannels(), 8 * file.getsampwidth())
            n_stated, rate = file.getnframes(), file.getframerate()
            samples = file.readframes(n_stated)
    except (wave.Error, EOFError, ValueError, OverflowError, ZeroDivisionError, RuntimeError, MemoryError) as error:
        raise ArchiveError(
            f"{where}: found a file that cannot be read as a sound ({type(error).__name__}: {error}); expected a wav file that is "
            "not compressed. Mend: fetch the file again."
        ) from error
    if kind != (1, 16) or not 0 < 2 * n_stated == len(samples) or rate < 1:
        raise ArchiveError(
            f"{where}: found {kind[0]} channel(s) of {kind[1]} bits, {len(samples)} bytes for {n_stated} samples, {rate} Hz; "
            "expected one channel of 16 bits, and all of its samples. Mend: fetch the file again."
        )
    return np.frombuffer(samples, dtype="<i2").astype(np.int16), rate
