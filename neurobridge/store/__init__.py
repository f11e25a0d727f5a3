"""Ground floor of everything on disk: atomic files, state with digests, and a stable name for every class that is kept."""
