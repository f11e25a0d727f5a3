"""From a cost to a coupling: solvers and plans."""
