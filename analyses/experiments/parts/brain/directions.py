"""The two directions of transport of the brain and model experiment."""

from __future__ import annotations

TO_BRAIN, TO_MODEL = "model -> brain", "brain -> model"
