"""The wall of the room: assemblies know no torch, at run time."""

from __future__ import annotations

import json
import subprocess
import sys

CODE = """
import json, sys
import neurobridge.assemblies
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules} & {"torch", "sklearn", "ot"})))
"""


def test_assemblies_import_neither_torch_nor_other_rooms_libraries():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
