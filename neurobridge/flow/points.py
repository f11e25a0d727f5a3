"""Classes of the ground floor that users of the flow meet, under the name of this room."""

from neurobridge.points.scale import Standardiser
from neurobridge.points.support import OffSupportWarning, Support
from neurobridge.store.state import FlowFileError

__all__ = ["FlowFileError", "OffSupportWarning", "Standardiser", "Support"]
