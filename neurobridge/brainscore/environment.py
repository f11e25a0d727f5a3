"""What Brain-Score reads from the environment, set before it runs pip or trusts an old file."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

#: Variables and the values `prepare_environment` gives them where they are not set.
SAFE_ENVIRONMENT: dict[str, str] = {
    # Otherwise every load_metric, load_benchmark and load_model shells out to `pip install -r requirements.txt` of its plugin.
    "BS_INSTALL_DEPENDENCIES": "no",
    # Ceilings are cached on disk under the name of their benchmark alone, converted images under that of their stimulus set: files
    # swapped under BRAINIO_HOME would be normalised by the ceiling of the old ones. A prefix of `result_caching`; activations of
    # Brain-Score's own models, which are cached elsewhere, stay cached.
    "RESULTCACHING_DISABLE": "brainscore_vision.benchmark",
}


def prepare_environment(environ: MutableMapping[str, str] | None = None) -> dict[str, str]:
    """Set the variables that keep Brain-Score from running pip and from normalising by stale ceilings.

    Importing `neurobridge.brainscore` calls this; so do the linked plugins. A variable that is set already, to whatever value, is
    left as it is: ``BS_INSTALL_DEPENDENCIES=yes`` in the shell brings the installations back.

    Parameters
    ----------
    environ : mutable mapping, optional
        Default: ``os.environ``.

    Returns
    -------
    dict of str to str
        The variables that were set here, with their values.

    Examples
    --------
    >>> prepare_environment({"BS_INSTALL_DEPENDENCIES": "yes"})
    {'RESULTCACHING_DISABLE': 'brainscore_vision.benchmark'}
    """
    environ = os.environ if environ is None else environ
    added = {name: value for name, value in SAFE_ENVIRONMENT.items() if name not in environ}
    environ.update(added)
    return added
